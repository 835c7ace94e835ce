//! No room: a full disk under the database or under the documents, and a
//! database that another program keeps locked. Callers are told to come back,
//! and the service is back when there is room.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sea_orm::ConnectionTrait;
use sea_orm::sqlx::{self, Connection};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::callers::Callers;
use crate::cancelled::until;
use crate::own_postgres::OwnPostgres;
use crate::support::{Database, Server, on_each_database};
use crate::wire::{FORM, echo, file, form, no_upload_is_left, refusal};
use millrace::store::{Store, StoreError};

/// A disk of its own in memory, which can be filled. None without the right
/// to mount one.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn mount(mebibytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=1777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        mounted.then_some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = File::create(self.path("ballast")).unwrap();
        for piece in [1 << 16, 1 << 12, 1] {
            let zeros = vec![0; piece];
            while ballast.write_all(&zeros).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Even where something is still open on it.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// A load on a server whose store has no room for a while.
async fn gets_room_again(
    what: &str,
    database: &Database,
    fill: impl FnOnce(),
    make_room: impl FnOnce(),
) {
    let server = Server::start(database).await;
    let target = server.api.deploy(echo()).await;
    let callers = Callers::start(&server.api, &target);
    callers.accepted(50).await;
    fill();
    callers.refused(3).await;
    make_room();
    let back = callers.accepted(1).await;
    callers.accepted(50).await;
    let told = callers.end().await;
    assert_eq!((told.broken.as_slice(), told.unheard), ([].as_slice(), 0), "all are answered");
    println!(
        "{what}: {} accepted, {} refused, back after {} ms, slowest answer {} ms",
        told.accepted.len(),
        told.refused.iter().sum::<usize>(),
        back.as_millis(),
        told.slowest.as_millis(),
    );
    for (input, id) in &told.accepted {
        assert_eq!(server.api.ended(&target, id).await["status"], "COMPLETED");
        assert_eq!(server.api.result(&target, id).await[0]["result"]["output"], *input);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_database_on_a_full_disk_takes_submissions_again_when_there_is_room() {
    let Some(disk) = Disk::mount(32) else {
        println!("skipped: a full disk needs the right to mount one");
        return;
    };
    let mut database = Database::sqlite();
    database.url = format!("sqlite://{}", disk.path("millrace.db").display());
    gets_room_again("SQLite, full disk", &database, || disk.fill(), || disk.make_room()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_on_a_full_disk_takes_submissions_again_when_there_is_room() {
    let Some(disk) = Disk::mount(256) else {
        println!("skipped: a full disk needs the right to mount one");
        return;
    };
    let Some(mut postgres) = OwnPostgres::start_in(disk.folder.path()) else {
        println!("skipped: a full disk under Postgres needs Postgres");
        return;
    };
    let database = postgres.database().await;
    let make_room = || {
        disk.make_room();
        // Without room for its log it may have ended itself.
        postgres.try_to("start");
    };
    gets_room_again("Postgres, full disk", &database, || disk.fill(), make_room).await;
}

/// What `max_page_count` refuses is what a full disk refuses.
#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_transaction_that_finds_no_room_leaves_its_connection_usable() {
    let database = Database::sqlite();
    let store = Store::open(&database.config(""), Handle::current()).await.unwrap();
    let keep = |name: &'static str, bytes: usize| {
        let insert = format!("INSERT INTO settings VALUES ('{name}', hex(zeroblob({bytes})))");
        store.write(move |tx| Box::pin(async move { Ok(tx.execute_unprepared(&insert).await?) }))
    };
    let full = store.write(|tx| {
        Box::pin(async move {
            tx.execute_unprepared("PRAGMA max_page_count = 1").await?;
            tx.execute_unprepared("INSERT INTO settings VALUES ('large', hex(zeroblob(1000000)))")
                .await?;
            Ok(())
        })
    });
    let refused = full.await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    keep("small", 1).await.unwrap();
    keep("large", 1_000_000).await.unwrap();
    let kept = store.read(|db| async move {
        Ok(db
            .query_all_raw(sea_orm::Statement::from_string(
                sea_orm::DbBackend::Sqlite,
                "SELECT name FROM settings WHERE name IN ('small', 'large')",
            ))
            .await?
            .len())
    });
    assert_eq!(kept.await.unwrap(), 2);
}

on_each_database! {
    async fn a_full_document_store_takes_documents_again_when_there_is_room(database) {
        let Some(disk) = Disk::mount(16) else {
            println!("skipped: a full disk needs the right to mount one");
            return;
        };
        let folder = json!(disk.folder.path()).to_string();
        let changes = format!("[documents]\nfolder = {folder}");
        let server = Server::start_with(&database, &changes).await;
        let target = server.api.deploy(echo()).await;
        let path = format!("/deployment/{}/", target.public_id);
        let upload = |n: usize| {
            let body = form(&[file("large.txt", &format!("{n} ").repeat(100_000))]);
            let request = server.api.post(&path, &target.key).header("content-type", FORM);
            request.body(body).send()
        };
        assert_eq!(upload(1).await.unwrap().status(), 202);
        disk.fill();
        let refused = upload(2).await.unwrap();
        assert!(refused.headers().contains_key("retry-after"));
        refusal(refused, 503, "store_unavailable").await;
        // What needs no document is served.
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        assert_eq!(server.api.ended(&target, &id).await["status"], "COMPLETED");
        let places = &server.engine.context().accepted;
        // They are given back just after the end is told.
        until("the place of what was refused is free", async || places.taken() == 0).await;
        disk.make_room();
        assert_eq!(upload(3).await.unwrap().status(), 202);
        let uploads = disk.path("uploads");
        assert!(is_empty(&uploads), "nothing half-written is left");
        no_upload_is_left(&database).await;
        server.stop().await;
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_database_that_another_program_locks_takes_submissions_again_after_it() {
    let database = Database::sqlite();
    let (locked, free) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let url = database.url.clone();
    let (taken, holding) = locked;
    let (release, released) = free;
    let (begin, begun) = std::sync::mpsc::channel::<()>();
    // A thread of its own: it holds the lock for as long as the test wants.
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            begun.recv().unwrap();
            let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut other).await.unwrap();
            sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
            taken.send(()).unwrap();
            released.recv().unwrap();
            sqlx::query("COMMIT").execute(&mut other).await.unwrap();
        });
    });
    let lock = || {
        begin.send(()).unwrap();
        tokio::task::block_in_place(|| holding.recv().unwrap());
    };
    let unlock = || release.send(()).unwrap();
    gets_room_again("SQLite, locked by another", &database, lock, unlock).await;
    other.join().unwrap();
}
