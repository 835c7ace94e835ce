//! The pools and transactions under the store, against what sqlx leaves open.

use std::sync::Arc;
use std::time::Duration;

use millrace::store::{Store, StoreError};
use sea_orm::sqlx::{self, Connection, Row};
use sea_orm::{ConnectionTrait, EntityTrait};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::support::{Database, PATIENCE, on_each_database};

async fn open(database: &Database) -> Store {
    let config = database.config("[database]\nmax_connections = 4");
    Store::open(&config, Handle::current()).await.unwrap()
}

async fn setting(store: &Store, name: &'static str) -> Option<String> {
    let found = store.read(move |db| async move {
        Ok(millrace_entities::setting::Entity::find_by_id(name).one(&db).await?)
    });
    found.await.unwrap().map(|row| row.value)
}

const INSERT: &str = "INSERT INTO settings (name, value) VALUES ('kept', 'yes')";

on_each_database! {
    /// Without a task of its own the transaction would be dropped half-way
    /// with the request, and the row with it.
    async fn a_transaction_whose_caller_goes_away_is_still_committed(database) {
        let store = open(&database).await;
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, gate) = (Arc::clone(&entered), Arc::clone(&leave));
        let writing = store.write(move |tx| {
            Box::pin(async move {
                tx.execute_unprepared(INSERT).await?;
                inside.notify_one();
                gate.notified().await;
                Ok(())
            })
        });
        tokio::select! {
            _ = writing => panic!("the gate is shut"),
            () = entered.notified() => {}
        }
        // The caller's future is gone now, its transaction is not.
        leave.notify_one();
        let committed = async {
            while setting(&store, "kept").await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, committed).await.expect("it is committed");
    }
}

on_each_database! {
    async fn a_transaction_that_fails_leaves_nothing(database) {
        let store = open(&database).await;
        let failed: Result<(), StoreError> = store.write(|tx| Box::pin(async move {
            tx.execute_unprepared(INSERT).await?;
            Err(StoreError::Stale)
        })).await;
        assert!(matches!(failed, Err(StoreError::Stale)));
        assert_eq!(setting(&store, "kept").await, None);
    }
}

/// Without the rollback before each acquire, the insert below would answer
/// OK, stand inside the transaction that nobody ends, and be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_left_inside_a_transaction_loses_no_later_write_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_connection_left_inside_a_transaction needs Postgres");
        return;
    };
    let store = open(&database).await;
    // What a cancelled `begin` leaves: a transaction that sqlx does not know of.
    let begin = |store: Store| async move {
        let begun = store.read(|db| async move { Ok(db.execute_unprepared("BEGIN").await?) });
        begun.await.unwrap();
    };
    // On every connection the pool may hold.
    let poisoned: Vec<_> = (0..8).map(|_| tokio::spawn(begin(store.clone()))).collect();
    for task in poisoned {
        task.await.unwrap();
    }
    let inserted = store.read(|db| async move { Ok(db.execute_unprepared(INSERT).await?) });
    inserted.await.unwrap();
    let mut witness = sqlx::postgres::PgConnection::connect(&database.url).await.unwrap();
    let seen = sqlx::query("SELECT value FROM settings WHERE name = 'kept'");
    let seen = seen.fetch_optional(&mut witness).await.unwrap();
    assert_eq!(seen.map(|row| row.get::<String, _>(0)).as_deref(), Some("yes"));
}

/// A `begin` dropped at any moment may come back to the pool inside a
/// transaction; the store's own transactions are never dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_abandoned_writes_leave_no_transaction_open_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_thousand_abandoned_writes needs Postgres");
        return;
    };
    let store = open(&database).await;
    for round in 0..1000_u32 {
        let name = format!("round-{round}");
        let writing = store.setting_or(&name, String::new());
        // Polled a different number of times in each round, then dropped.
        let _ = tokio::time::timeout(Duration::from_micros(u64::from(round % 400)), writing).await;
    }
    let mut witness = sqlx::postgres::PgConnection::connect(&database.url).await.unwrap();
    let settled = async {
        loop {
            let open = "SELECT count(*) FROM pg_stat_activity \
                        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
            let count = "SELECT count(*) FROM settings WHERE name LIKE 'round-%'";
            let open: i64 = sqlx::query_scalar(open).fetch_one(&mut witness).await.unwrap();
            let count: i64 = sqlx::query_scalar(count).fetch_one(&mut witness).await.unwrap();
            if (open, count) == (0, 1000) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("every write ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_from_a_statement_that_is_wrong() {
    let database = Database::sqlite();
    let store = open(&database).await;
    let wrong = store.read(|db| async move { Ok(db.execute_unprepared("SELEC").await?) });
    assert!(matches!(wrong.await, Err(StoreError::Fault(_))));
    let writes = store.read(|db| async move { Ok(db.execute_unprepared(INSERT).await?) });
    assert!(matches!(writes.await, Err(StoreError::Fault(_))), "readers cannot write");
    store.clone().close().await;
    assert!(matches!(store.ping(PATIENCE).await, Err(StoreError::Unavailable(_))));
}
