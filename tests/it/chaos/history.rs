//! The history of a run: every answer that clients got, and when servers were
//! there to give one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::check::is_terminal;

/// What a client learnt. Names and statuses are as on the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A submission was accepted under this id.
    Accepted { marker: String, id: String },
    /// An execution has this status; a refused result says it too.
    Status { id: String, status: String },
    /// An execution completed with these files.
    Result { id: String, files: Vec<File> },
    /// Somebody asked for a cancel and got this answer, or none.
    Cancel { id: String, answer: Option<CancelAnswer> },
    /// One follower's events, in the order in which they came.
    Events { id: String, events: Vec<Event> },
    /// An accepted execution was answered as unknown.
    Unknown { id: String },
    /// A call whose connection stood and then broke without an answer.
    Torn { call: String },
    /// An answer that nothing in the plan explains.
    Strange(String),
}

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// 202: it becomes `STOPPED`.
    Noted,
    /// 409: it had ended.
    TooLate,
}

/// One document of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    pub name: String,
    /// None if it failed.
    pub output: Option<Value>,
}

/// An event as far as it is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Attempt and time in microseconds: the parts of its id.
    pub place: (u64, u64),
    /// The status it tells, if it tells one.
    pub status: Option<String>,
}

/// An answer with its times, from the beginning of the run.
#[derive(Debug, Clone)]
pub struct Record {
    pub asked: Duration,
    pub answered: Duration,
    pub seen: Seen,
}

/// A stretch of time, from the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Duration,
    pub to: Duration,
}

/// A history that many clients write at once.
#[derive(Debug)]
pub struct History {
    began: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    records: Vec<Record>,
    /// Servers that are there, and since when there is one at all.
    servers: usize,
    since: Duration,
    up: Vec<Span>,
    ends_in_order: Vec<Span>,
    /// When those were accepted that nobody has seen to end.
    open: BTreeMap<String, Duration>,
}

impl Pages {
    fn enter(&mut self, record: Record) {
        match &record.seen {
            Seen::Accepted { id, .. } => {
                self.open.insert(id.clone(), record.answered);
            }
            Seen::Status { id, status } if is_terminal(status) => {
                self.open.remove(id);
            }
            _ => {}
        }
        self.records.push(record);
    }
}

/// What a history says.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub records: Vec<Record>,
    /// When a server was there.
    pub up: Vec<Span>,
    /// When a server was told to end, to its end.
    pub ends_in_order: Vec<Span>,
}

impl History {
    pub fn new() -> Self {
        Self { began: Instant::now(), pages: Mutex::default() }
    }

    /// Time since the beginning of the run.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes what was asked at `asked` and has just been answered.
    pub fn note(&self, asked: Duration, seen: Seen) {
        let record = Record { asked, answered: self.now(), seen };
        self.with(|pages| pages.enter(record));
    }

    /// A server is ready to answer.
    pub fn up(&self) {
        let now = self.now();
        self.with(|pages| {
            if pages.servers == 0 {
                pages.since = now;
            }
            pages.servers += 1;
        });
    }

    /// A server that was ready is about to be gone, or stopped.
    pub fn down(&self) {
        let now = self.now();
        self.with(|pages| {
            pages.servers -= 1;
            if pages.servers == 0 {
                let from = pages.since;
                pages.up.push(Span { from, to: now });
            }
        });
    }

    /// A server was told to end at `from`, and has just ended.
    pub fn ended_in_order(&self, from: Duration) {
        let span = Span { from, to: self.now() };
        self.with(|pages| pages.ends_in_order.push(span));
    }

    /// All of it so far.
    pub fn read(&self) -> Told {
        let now = self.now();
        self.with(|pages| {
            let mut up = pages.up.clone();
            if pages.servers > 0 {
                up.push(Span { from: pages.since, to: now });
            }
            let ends_in_order = pages.ends_in_order.clone();
            Told { records: pages.records.clone(), up, ends_in_order }
        })
    }

    /// Executions accepted before `time` that nobody has seen to end.
    pub fn open_since_before(&self, time: Duration) -> usize {
        self.with(|pages| pages.open.values().filter(|accepted| **accepted < time).count())
    }

    /// Answers so far.
    pub fn len(&self) -> usize {
        self.with(|pages| pages.records.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Pages) -> T) -> T {
        work(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
