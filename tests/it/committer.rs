//! The committer: shared commits, and writes that only an owner may do.

use futures_util::future::join_all;
use millrace::clock;
use millrace::engine::audit::{Action, Author, Subject};
use millrace::store::Store;
use millrace::store::committer::{
    Acceptance, Claim, CommitError, Committer, Earlier, Ending, ExecutionRow, KeyRow, StepRow,
    Write,
};
use millrace::store::records::Scope;
use millrace_entities::enums::Status;
use sea_orm::sqlx::{self, Connection};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::support::{Database, on_each_database};

async fn open(database: &Database) -> (Store, Committer) {
    let store = Store::open(&database.config(""), Handle::current()).await.unwrap();
    let committer = Committer::start(&store, 1, 512, 8192);
    (store, committer)
}

pub fn row(owner: Uuid) -> ExecutionRow {
    ExecutionRow {
        id: Uuid::now_v7(),
        organisation_id: Uuid::nil(),
        deployment_id: Uuid::nil(),
        revision: 1,
        key_id: None,
        status: Status::Pending,
        owner: Some(owner),
        attempt: 1,
        recoveries: 0,
        cancel_requested: false,
        request: "{}".into(),
        documents: "[]".into(),
        documents_total: 0,
        documents_failed: 0,
        steps_total: 0,
        steps_done: 0,
        error: None,
        result: None,
        result_hash: None,
        created_at: clock::now(),
        started_at: None,
        ended_at: None,
        expires_at: None,
        rerun_of: None,
        rerun_from: None,
        gathered: None,
    }
}

fn accepting(row: &ExecutionRow, key: Option<KeyRow>) -> Write {
    let (row, tags, audit) = (row.clone(), Vec::new(), None);
    Write::Accept(Box::new(Acceptance { row, tags, key, audit, run: None }))
}

fn accept(row: &ExecutionRow) -> Write {
    accepting(row, None)
}

/// Accepts an execution under an idempotency key.
fn accept_under(key: u8, row: &ExecutionRow) -> Write {
    let key = KeyRow {
        hash: vec![key; 32],
        fingerprint: row.id.as_bytes().repeat(2),
        execution_id: row.id,
        expires_at: clock::now() + chrono::TimeDelta::hours(1),
    };
    accepting(row, Some(key))
}

/// What is said where `row` holds the key.
fn repeated(row: &ExecutionRow) -> Result<(), CommitError> {
    let fingerprint = row.id.as_bytes().repeat(2);
    Err(CommitError::Repeated(Earlier { execution_id: row.id, fingerprint }))
}

fn claim(row: &ExecutionRow) -> Claim {
    Claim { execution_id: row.id, owner: row.owner.unwrap(), attempt: row.attempt }
}

fn end(claim: Claim, status: Status, result: &str) -> Write {
    Write::End(
        claim,
        Box::new(Ending {
            status,
            documents_failed: 0,
            steps_total: 3,
            steps_done: 3,
            error: None,
            result: Some(result.into()),
            result_hash: None,
            started_at: Some(clock::now()),
            ended_at: clock::now(),
            expires_at: None,
            steps: Vec::new(),
            notice: None,
            files: Vec::new(),
        }),
    )
}

fn step(claim: Claim, output: &str) -> Write {
    let row = StepRow {
        execution_id: claim.execution_id,
        document_index: 0,
        step_index: 0,
        step_id: "one".into(),
        attempt: claim.attempt,
        output: Some(output.into()),
        output_hash: None,
        error: None,
        started_at: clock::now(),
        ended_at: clock::now(),
        tries: 1,
    };
    Write::Step(claim, Box::new(row))
}

/// Rows that one transaction inserted have one `xmin`.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_arrive_together_share_commits_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: writes_that_arrive_together needs Postgres");
        return;
    };
    let (_store, committer) = open(&database).await;
    let rows: Vec<_> = (0..1000).map(|_| row(Uuid::nil())).collect();
    let committed = join_all(rows.iter().map(|row| committer.commit(accept(row)))).await;
    assert!(committed.iter().all(Result::is_ok));
    let mut witness = sqlx::postgres::PgConnection::connect(&database.url).await.unwrap();
    let count = "SELECT count(*), count(DISTINCT xmin::text) FROM executions";
    let (rows, commits): (i64, i64) = sqlx::query_as(count).fetch_one(&mut witness).await.unwrap();
    assert_eq!(rows, 1000);
    assert!(commits <= 100, "{commits} commits for 1000 rows");
}

/// Postgres refuses NUL in text; SQLite does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_database_refuses_fails_alone_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_write_that_the_database_refuses needs Postgres");
        return;
    };
    let (store, committer) = open(&database).await;
    let mut rows: Vec<_> = (0..50).map(|_| row(Uuid::nil())).collect();
    rows[17].request = "\0".into();
    let committed = join_all(rows.iter().map(|row| committer.commit(accept(row)))).await;
    for (place, (row, outcome)) in rows.iter().zip(committed).enumerate() {
        let stored = store.execution(Uuid::nil(), row.id).await;
        if place == 17 {
            assert!(matches!(outcome, Err(CommitError::Refused(_))));
            assert!(stored.is_err());
        } else {
            assert_eq!(outcome, Ok(()));
            assert_eq!(stored.unwrap(), *row);
        }
    }
}

on_each_database! {
    async fn what_is_accepted_is_read_back_as_it_was(database) {
        let (store, committer) = open(&database).await;
        let row = row(Uuid::now_v7());
        committer.commit(accept(&row)).await.unwrap();
        // A repetition, as after a commit in doubt.
        committer.commit(accept(&row)).await.unwrap();
        assert_eq!(store.execution(Uuid::nil(), row.id).await.unwrap(), row);
    }
}

on_each_database! {
    async fn the_first_under_a_key_is_accepted_and_repeats_itself_as_often_as_it_must(database) {
        let (store, committer) = open(&database).await;
        let (first, second, third) = (row(Uuid::nil()), row(Uuid::nil()), row(Uuid::nil()));
        // In one batch, and after a commit in doubt.
        for _ in 0..2 {
            let done = join_all([
                committer.commit(accept_under(1, &first)),
                committer.commit(accept_under(1, &second)),
                committer.commit(accept_under(1, &first)),
                committer.commit(accept_under(2, &third)),
            ]).await;
            assert_eq!(done, [Ok(()), repeated(&first), Ok(()), Ok(())]);
        }
        assert!(store.execution(Uuid::nil(), first.id).await.is_ok());
        assert!(store.execution(Uuid::nil(), second.id).await.is_err());
        assert!(store.execution(Uuid::nil(), third.id).await.is_ok());
    }
}

/// Batches of several lanes and nodes claim the same keys in orders of their
/// own while they end executions. Should two wait for each other, Postgres
/// ends one of them, and its writes come back as `Unavailable`.
#[tokio::test(flavor = "multi_thread")]
async fn storm_of_claims_in_any_order_never_waits_in_a_circle_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: storm_of_claims needs Postgres");
        return;
    };
    let store = Store::open(&database.config(""), Handle::current()).await.unwrap();
    let nodes = [(); 2].map(|()| Committer::start(&store, 4, 64, 8192));
    let rows: Vec<_> = (0..400).map(|_| row(Uuid::nil())).collect();
    for (key, row) in rows.iter().enumerate() {
        let written = nodes[key % 2].commit(accept(row)).await;
        assert_eq!(written, Ok(()));
    }
    let node = |place: usize| &nodes[place / 3 % 2];
    for round in 0..10_u8 {
        let claims = (0..2000_usize).map(|place| {
            // Strides without a common factor: each lane sees another order.
            let stride = [7, 11, 13][place % 3];
            let key = u8::try_from(place * stride % 20).unwrap() + round * 20;
            async move { node(place).commit(accept_under(key, &row(Uuid::nil()))).await }
        });
        let begins = rows
            .iter()
            .enumerate()
            .map(|(place, row)| node(place).commit(Write::Begin(claim(row), clock::now())));
        let (claimed, begun) = tokio::join!(join_all(claims), join_all(begins));
        assert!(begun.iter().all(Result::is_ok), "{begun:?}");
        assert_eq!(claimed.iter().filter(|outcome| outcome.is_ok()).count(), 20);
        let others = claimed.iter().filter_map(|outcome| outcome.as_ref().err());
        let strange = |error: &&CommitError| !matches!(error, CommitError::Repeated(_));
        assert_eq!(others.filter(strange).collect::<Vec<_>>(), Vec::<&CommitError>::new());
    }
}

on_each_database! {
    async fn steps_and_end_handed_in_together_are_all_written(database) {
        let (store, committer) = open(&database).await;
        let row = row(Uuid::now_v7());
        let claim = claim(&row);
        let done = join_all([
            committer.commit(accept(&row)),
            committer.commit(Write::Begin(claim, clock::now())),
            committer.commit(step(claim, "1")),
            committer.commit(step(claim, "2")),
            committer.commit(end(claim, Status::Completed, "[]")),
        ]).await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        let stored = store.execution(Uuid::nil(), row.id).await.unwrap();
        assert_eq!((stored.status, stored.steps_done), (Status::Completed, 3));
        assert!(stored.started_at.is_some());
        let steps = store.step_runs(row.id).await.unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].output.as_deref(), Some("2"));
    }
}

on_each_database! {
    async fn a_writer_that_is_not_the_owner_changes_nothing(database) {
        let (store, committer) = open(&database).await;
        let row = row(Uuid::now_v7());
        committer.commit(accept(&row)).await.unwrap();
        let another_node = Claim { owner: Uuid::now_v7(), ..claim(&row) };
        let earlier_attempt = Claim { attempt: 0, ..claim(&row) };
        for stranger in [another_node, earlier_attempt] {
            for write in [
                step(stranger, "1"),
                Write::Begin(stranger, clock::now()),
                end(stranger, Status::Completed, "[]"),
            ] {
                assert_eq!(committer.commit(write).await, Err(CommitError::Lost));
            }
        }
        assert_eq!(store.execution(Uuid::nil(), row.id).await.unwrap(), row);
        assert!(store.step_runs(row.id).await.unwrap().is_empty());
    }
}

on_each_database! {
    async fn nothing_follows_a_terminal_status(database) {
        let (store, committer) = open(&database).await;
        let row = row(Uuid::now_v7());
        committer.commit(accept(&row)).await.unwrap();
        committer.commit(end(claim(&row), Status::Stopped, "1")).await.unwrap();
        for write in [step(claim(&row), "1"), end(claim(&row), Status::Completed, "2")] {
            assert_eq!(committer.commit(write).await, Err(CommitError::Lost));
        }
        let stored = store.execution(Uuid::nil(), row.id).await.unwrap();
        assert_eq!((stored.status, stored.result.as_deref()), (Status::Stopped, Some("1")));
    }
}

on_each_database! {
    async fn a_cancel_that_was_answered_before_the_end_wins(database) {
        let (store, committer) = open(&database).await;
        let row = row(Uuid::now_v7());
        committer.commit(accept(&row)).await.unwrap();
        assert!(store.request_cancel(Uuid::nil(), row.id).await.unwrap());
        let completed = committer.commit(end(claim(&row), Status::Completed, "[]")).await;
        assert_eq!(completed, Err(CommitError::Cancelled));
        committer.commit(end(claim(&row), Status::Stopped, "[]")).await.unwrap();
        assert!(!store.request_cancel(Uuid::nil(), row.id).await.unwrap());
    }
}

on_each_database! {
    async fn work_of_a_node_that_is_gone_is_claimed_once_and_the_attempt_counted(database) {
        let (store, committer) = open(&database).await;
        let (alive, dead, heir) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        store.register_node(alive).await.unwrap();
        let (kept, orphan, waiting) = (row(alive), row(dead), row(dead));
        let mut handed_back = row(dead);
        handed_back.owner = None;
        for row in [&kept, &orphan, &waiting, &handed_back] {
            committer.commit(accept(row)).await.unwrap();
        }
        committer.commit(Write::Begin(claim(&orphan), clock::now())).await.unwrap();
        let claimed = store.claim_orphans(heir, 10).await.unwrap();
        let found: Vec<_> =
            claimed.iter().map(|row| (row.id, row.owner, row.attempt, row.recoveries)).collect();
        assert_eq!(found, [
            (orphan.id, Some(heir), 2, 1),
            (waiting.id, Some(heir), 2, 0),
            (handed_back.id, Some(heir), 2, 0),
        ]);
        for row in &claimed {
            assert_eq!(store.execution(Uuid::nil(), row.id).await.unwrap(), *row);
        }
        store.register_node(heir).await.unwrap();
        let lost = committer.commit(end(claim(&orphan), Status::Completed, "[]")).await;
        assert_eq!(lost, Err(CommitError::Lost));
    }
}

on_each_database! {
    async fn what_repeats_an_execution_without_content_is_refused_and_nothing_else_with_it(database) {
        let (store, committer) = open(&database).await;
        let owner = Uuid::now_v7();
        let of = |request: &str| ExecutionRow { request: request.into(), ..row(owner) };
        let (whole, expired) = (of("{\"tags\":[]}"), of("{}"));
        for original in [&whole, &expired] {
            committer.commit(accept(original)).await.unwrap();
            committer.commit(end(claim(original), Status::Completed, "[]")).await.unwrap();
        }
        let again = |original: &ExecutionRow| {
            let row = ExecutionRow { rerun_of: Some(original.id), ..of("{\"tags\":[]}") };
            let subject = Subject { organisation_id: None, resource: "execution", id: row.id, name: "x" };
            let entry = Author::server().entry(Action::Rerun, subject, &[]);
            let tags = vec!["tag".into()];
            (row.id, Write::Accept(Box::new(Acceptance { row, tags, key: None, audit: Some(entry), run: None })))
        };
        let ((kept, first), (refused, second)) = (again(&whole), again(&expired));
        let plain = of("{\"tags\":[]}");
        // Handed in together, so that they share a commit.
        let mut waiting = Vec::new();
        for write in [first, second, accept(&plain)] {
            waiting.push(committer.enqueue(write).await.unwrap());
        }
        let mut outcomes = Vec::new();
        for outcome in waiting {
            outcomes.push(outcome.await.unwrap());
        }
        assert_eq!(outcomes, [Ok(()), Err(CommitError::Expired), Ok(())]);
        let scope = Scope::Organisation(Uuid::nil());
        for id in [kept, plain.id] {
            assert!(store.summary(scope, id).await.is_ok());
        }
        assert!(store.summary(scope, refused).await.is_err());
    }
}
