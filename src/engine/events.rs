//! What happens to an execution, as a list of events with increasing ids.
//!
//! An event's id is the attempt that it belongs to and its time in
//! microseconds. The times are the ones that are recorded of the execution
//! and its steps, so that [`super::history`] makes the same list with the
//! same ids from the store. Persist, then announce: an end is seen only once
//! it is recorded, and nothing that follows it is seen before. A beginning is
//! seen at once; it is recorded with its end. The beginning of a step whose
//! process dies is therefore not recorded, and the next attempt, whose ids
//! are larger whatever its clock says, begins the step anew.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_entities::execution;
use serde_json::Value;
use tokio::sync::watch;

use super::lifecycle::{self, Status};
use crate::clock;
use crate::steps::StepError;
use crate::store::records::Given;

/// The place of an event in the order of its execution's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    attempt: i32,
    micros: i64,
}

impl EventId {
    /// The event of `attempt` at `time`.
    pub fn new(attempt: i32, time: DateTime<Utc>) -> Self {
        Self { attempt, micros: time.timestamp_micros() }
    }

    /// The attempt that the event belongs to.
    pub fn attempt(self) -> i32 {
        self.attempt
    }

    /// When it happened.
    pub fn time(self) -> DateTime<Utc> {
        time_of(self.micros)
    }

    /// The id a microsecond `later`.
    pub(super) fn shifted(self, later: i64) -> Self {
        Self { micros: self.micros.saturating_add(later), ..self }
    }
}

/// `1-1763899200000000`
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.micros)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (attempt, micros) = text.split_once('-').ok_or(())?;
        let digits =
            |text: &str, most| text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(attempt, 9) || !digits(micros, 18) {
            return Err(());
        }
        let (attempt, micros) = (attempt.parse().ok(), micros.parse().ok());
        attempt.zip(micros).map(|(attempt, micros)| Self { attempt, micros }).ok_or(())
    }
}

/// Where a document or a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Started,
    /// It ended well.
    Completed,
    /// It was passed over, for its condition or its error.
    Skipped,
    /// It failed.
    Failed,
    /// The execution was cancelled before it ended.
    Stopped,
}

impl State {
    /// How something ended that failed with `error`, if it did.
    pub fn of(error: Option<&Value>) -> Self {
        match error.map(|error| super::error_parts(error).0) {
            None => Self::Completed,
            Some(code) if code == StepError::cancelled().code => Self::Stopped,
            Some(_) => Self::Failed,
        }
    }
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The execution's status.
    Execution(Status),
    /// A document, by its position.
    Document(usize, State),
    /// A step of a document, by the positions of both.
    Step(usize, usize, State),
}

/// A change.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the order.
    pub id: EventId,
    /// What changed.
    pub what: What,
    /// Why it failed: `code` and `detail`.
    pub error: Option<Arc<Value>>,
    /// How often a step that ended was tried; 0 of all else.
    pub tries: i32,
    /// Whether it may be seen.
    settled: bool,
}

impl Event {
    /// An event that is recorded.
    pub(super) fn recorded(id: EventId, what: What, error: Option<Arc<Value>>) -> Self {
        Self { id, what, error, tries: 0, settled: true }
    }

    /// The same, after so many tries.
    pub(super) fn tried(self, tries: i32) -> Self {
        Self { tries, ..self }
    }

    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self.what, What::Execution(status) if lifecycle::is_terminal(status))
    }

    /// The document it is about.
    pub fn document(&self) -> Option<usize> {
        match self.what {
            What::Execution(_) => None,
            What::Document(document, _) | What::Step(document, ..) => Some(document),
        }
    }
}

/// A step that the end of its execution interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// Position of the document.
    pub document: usize,
    /// Position of the step.
    pub step: usize,
    /// When the step began.
    pub started_at: DateTime<Utc>,
    /// When it was interrupted.
    pub ended_at: DateTime<Utc>,
    /// How often it was tried.
    pub tries: i32,
}

/// What came of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepOutcome<'a> {
    /// What it gave to those after it.
    pub(super) given: Given,
    /// Why it failed.
    pub(super) error: Option<&'a Value>,
    /// Whether no other step follows.
    pub(super) is_last: bool,
}

impl StepOutcome<'_> {
    /// How the step ended.
    pub(super) fn state(&self) -> State {
        match self.given {
            Given::Unchanged => State::Skipped,
            _ => State::of(self.error),
        }
    }

    /// Whether the step's failure is its document's.
    pub(super) fn is_fatal(&self) -> bool {
        self.given == Given::Nothing && self.error.is_some()
    }

    /// How its document ended with it, if it did.
    pub(super) fn document(&self) -> Option<State> {
        match self.is_fatal() {
            true => Some(self.state()),
            false => self.is_last.then_some(State::Completed),
        }
    }
}

/// How a step that ran is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepEnd {
    /// When it ended.
    pub(super) at: DateTime<Utc>,
    /// How often it was tried; 0 if it was not to run.
    pub(super) tries: i32,
}

#[derive(Debug)]
struct Log {
    attempt: i32,
    /// The last time that was given out, in microseconds.
    last: i64,
    /// Whether the end is being written: documents change no more.
    closed: bool,
    /// In the order of their ids.
    events: Vec<Event>,
    /// How often each document's step was tried so far.
    tries: HashMap<usize, i32>,
}

impl Log {
    /// The first of `count` microseconds that nothing else has.
    fn take(&mut self, count: i64) -> i64 {
        let first = clock::now().timestamp_micros().max(self.last + 1);
        self.last = first + count - 1;
        first
    }

    fn tries_of(&self, document: usize) -> i32 {
        self.tries.get(&document).copied().unwrap_or(1)
    }

    fn push(&mut self, micros: i64, what: What, error: Option<Arc<Value>>, settled: bool) {
        let id = EventId { attempt: self.attempt, micros };
        self.events.push(Event { id, what, error, tries: 0, settled });
    }

    /// A document ends with its last step, a microsecond later.
    fn end_step(&mut self, document: usize, step: usize, outcome: StepOutcome<'_>) -> StepEnd {
        let end = outcome.document();
        let micros = self.take(1 + i64::from(end.is_some()));
        let state = outcome.state();
        let error = outcome.error.map(|error| Arc::new(error.clone()));
        let was_to_run = state != State::Skipped || error.is_some();
        let tries = if was_to_run { self.tries_of(document) } else { 0 };
        self.push(micros, What::Step(document, step, state), error.clone(), false);
        if let Some(event) = self.events.last_mut() {
            event.tries = tries;
        }
        if let Some(state) = end {
            let error = error.filter(|_| outcome.is_fatal());
            self.push(micros + 1, What::Document(document, state), error, false);
        }
        StepEnd { at: time_of(micros), tries }
    }
}

/// The events of an execution that is live on this node. Their number is
/// bounded by the documents and steps of the execution.
#[derive(Debug)]
pub struct EventLog(watch::Sender<Log>);

impl EventLog {
    /// Starts from what the store knows of the execution itself.
    pub fn new(row: &execution::Model) -> Self {
        let mut events = vec![accepted(row.created_at)];
        events.extend(row.started_at.map(begun));
        let last = row.started_at.unwrap_or(row.created_at).max(row.created_at);
        Self(watch::Sender::new(Log {
            attempt: row.attempt,
            last: last.timestamp_micros(),
            closed: false,
            events,
            tries: HashMap::new(),
        }))
    }

    /// Follows the events from now on.
    pub fn follow(&self) -> Reader {
        Reader(self.0.subscribe())
    }

    /// Another attempt goes on after the documents' `events` of the earlier
    /// ones, before its own first.
    pub(super) fn resume(&self, attempt: i32, events: impl IntoIterator<Item = Event>) {
        self.0.send_modify(|log| {
            log.attempt = attempt;
            log.events.retain(|event| event.document().is_none());
            log.events.extend(events);
            log.events.sort_by_key(|event| event.id);
        });
    }

    /// A time for what is recorded next.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let mut micros = 0;
        self.0.send_if_modified(|log| {
            micros = log.take(1);
            false
        });
        time_of(micros)
    }

    /// It runs for the first time.
    pub(super) fn begin(&self, at: DateTime<Utc>) {
        self.0.send_modify(|log| log.events.push(begun(at)));
    }

    /// A step runs. A document begins with the first step that runs, which
    /// `opens` it, a microsecond earlier. None if the execution is about to end.
    pub(super) fn begin_step(
        &self,
        document: usize,
        step: usize,
        opens: bool,
    ) -> Option<DateTime<Utc>> {
        let mut started = None;
        self.0.send_if_modified(|log| {
            if log.closed {
                return false;
            }
            let mut micros = log.take(1 + i64::from(opens));
            if opens {
                log.push(micros, What::Document(document, State::Started), None, true);
                micros += 1;
            }
            log.push(micros, What::Step(document, step, State::Started), None, true);
            log.tries.insert(document, 1);
            started = Some(time_of(micros));
            true
        });
        started
    }

    /// The document's step is tried once more.
    pub(super) fn try_again(&self, document: usize) {
        self.0.send_if_modified(|log| {
            *log.tries.entry(document).or_insert(1) += 1;
            false
        });
    }

    /// How often the document's step was tried so far.
    pub(super) fn tries(&self, document: usize) -> i32 {
        self.0.borrow().tries_of(document)
    }

    /// A step ended, and its document with it if nothing follows; not to be
    /// seen before [`Self::settle`]. None if the execution is about to end.
    pub(super) fn end_step(
        &self,
        document: usize,
        step: usize,
        outcome: StepOutcome<'_>,
    ) -> Option<StepEnd> {
        let mut ended = None;
        self.0.send_if_modified(|log| {
            if !log.closed {
                ended = Some(log.end_step(document, step, outcome));
            }
            false
        });
        ended
    }

    /// What ended at `ended_at` is recorded.
    pub(super) fn settle(&self, document: usize, ended_at: DateTime<Utc>) {
        self.0.send_if_modified(|log| {
            if log.closed {
                return false;
            }
            let since = ended_at.timestamp_micros();
            let recent = log.events.iter_mut().rev().take_while(|event| event.id.micros >= since);
            for event in recent.filter(|event| event.document() == Some(document)) {
                event.settled = true;
            }
            true
        });
    }

    /// Takes back an end of the document that could not be recorded.
    pub(super) fn take_back(&self, document: usize) {
        self.0.send_if_modified(|log| {
            log.events.retain(|event| event.settled || event.document() != Some(document));
            false
        });
    }

    /// The step of the document that began and has not ended.
    pub(super) fn open_step(&self, document: usize) -> Option<(usize, DateTime<Utc>)> {
        let log = self.0.borrow();
        let last = log.events.iter().rev().find(|event| event.document() == Some(document))?;
        match last.what {
            What::Step(_, step, State::Started) => Some((step, last.id.time())),
            _ => None,
        }
    }

    /// The execution is about to end: documents change no more. What has begun
    /// and is not recorded ended with `error`, and is to be recorded with the
    /// execution's end; but for the documents in `kept`, whose ends are.
    pub(super) fn close(&self, error: &Value, kept: &[usize]) -> Vec<Interrupted> {
        let mut interrupted = Vec::new();
        self.0.send_if_modified(|log| {
            log.closed = true;
            let stays = |event: &Event| {
                event.settled || event.document().is_some_and(|document| kept.contains(&document))
            };
            log.events.retain(stays);
            let mut open = BTreeMap::new();
            for event in &log.events {
                match event.what {
                    What::Step(document, step, State::Started) => {
                        open.insert(document, (step, event.id));
                    }
                    What::Step(document, ..) => {
                        open.remove(&document);
                    }
                    _ => {}
                }
            }
            let outcome = StepOutcome { given: Given::Nothing, error: Some(error), is_last: false };
            for (document, (step, began)) in open {
                let StepEnd { at, tries } = log.end_step(document, step, outcome);
                let started_at = began.time();
                interrupted.push(Interrupted { document, step, started_at, ended_at: at, tries });
            }
            false
        });
        interrupted
    }

    /// The end is recorded, and all that came before it.
    pub(super) fn end(&self, status: Status, at: DateTime<Utc>, error: Option<&Value>) {
        self.0.send_modify(|log| {
            for event in &mut log.events {
                event.settled = true;
            }
            let error = error.map(|error| Arc::new(error.clone()));
            log.push(at.timestamp_micros(), What::Execution(status), error, true);
        });
    }
}

/// A place in a live execution's events. It holds no events of its own, so a
/// slow reader costs no memory.
pub struct Reader(watch::Receiver<Log>);

impl Reader {
    /// The next events after `cursor`, at most so many.
    pub fn after(&mut self, cursor: Option<EventId>, most: usize) -> Vec<Event> {
        let log = self.0.borrow_and_update();
        let from = log.events.partition_point(|event| Some(event.id) <= cursor);
        let rest = log.events.iter().skip(from);
        rest.take_while(|event| event.settled).take(most).cloned().collect()
    }

    /// Waits for a change. False if the execution is live here no more.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// The first event of every execution.
pub(super) fn accepted(at: DateTime<Utc>) -> Event {
    Event::recorded(EventId::new(1, at), What::Execution(Status::Pending), None)
}

/// Counted to the first attempt whichever it was: it precedes all steps.
pub(super) fn begun(at: DateTime<Utc>) -> Event {
    Event::recorded(EventId::new(1, at), What::Execution(Status::Executing), None)
}

fn time_of(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests;
