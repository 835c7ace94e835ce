//! A Postgres cluster of a test's own, which the test may stop, freeze and
//! start again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::Database;

/// The exit code of `scripts/postgres` where there is no Postgres.
const UNAVAILABLE: i32 = 69;

/// The cluster. It is removed when this is dropped, and also when the test's
/// process dies: the script that keeps it then finds its input ended.
pub struct OwnPostgres {
    /// Where its databases are made.
    url: String,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl OwnPostgres {
    /// Makes and starts a cluster whose commits reach the disk. None where
    /// there is no Postgres; on CI that is a failure.
    pub fn start() -> Option<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// As [`OwnPostgres::start`], with its files in a folder below `parent`.
    pub fn start_in(parent: &Path) -> Option<Self> {
        let mut keeper = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
            .args(["obey", "--durable"])
            .env("TMPDIR", parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut url = String::new();
        answers.read_line(&mut url).unwrap();
        if url.is_empty() {
            let code = keeper.wait().unwrap().code();
            assert_eq!(code, Some(UNAVAILABLE), "the cluster is made");
            let on_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!on_ci, "Postgres is installed on CI");
            return None;
        }
        let url = url.trim_end().to_owned();
        let orders = keeper.stdin.take();
        Some(Self { url, keeper, orders, answers })
    }

    /// An empty database.
    pub async fn database(&self) -> Database {
        Database::on(&self.url).await
    }

    /// Stops it at once, as a crash would: connections break, and what was not
    /// committed is gone.
    pub fn stop_immediate(&mut self) {
        self.obey("stop");
    }

    /// Starts it again, on the port that it had; returns when it answers.
    pub fn restart(&mut self) {
        self.obey("start");
    }

    /// Holds all its processes: connections stay open, new ones are taken,
    /// and nothing is answered.
    pub fn freeze(&mut self) {
        self.obey("freeze");
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.obey("thaw");
    }

    fn obey(&mut self, order: &str) {
        assert!(self.try_to(order), "it was told to {order}");
    }

    /// Whether the order was carried out. Tests run on several threads; only
    /// this one waits.
    pub fn try_to(&mut self, order: &str) -> bool {
        tokio::task::block_in_place(|| {
            writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
            let mut answer = String::new();
            self.answers.read_line(&mut answer).unwrap();
            answer.trim_end() == "done"
        })
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // The end of its orders ends it.
        self.orders = None;
        let _ = self.keeper.wait();
    }
}
