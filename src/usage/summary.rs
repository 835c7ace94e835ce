//! Counters added up, as they are told.

use std::collections::BTreeMap;

use super::counter::{Counter, Spent, Tokens};
use super::histogram::Histogram;
use crate::usage::Status;

/// The use within some span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests by HTTP status.
    pub requests: BTreeMap<u16, i64>,
    /// Executions that completed.
    pub completed: i64,
    /// Executions that failed.
    pub failed: i64,
    /// Executions that were stopped.
    pub stopped: i64,
    /// How long executions ran.
    pub times: Histogram,
    /// Documents taken in.
    pub documents: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Tokens and cost by model.
    pub models: BTreeMap<String, Tokens>,
}

impl Summary {
    /// Adds to one counter.
    pub fn add(&mut self, counter: &Counter, count: i64) {
        match counter {
            Counter::Requests(status) => *self.requests.entry(*status).or_default() += count,
            Counter::Executions(Status::Completed) => self.completed += count,
            Counter::Executions(Status::Error) => self.failed += count,
            Counter::Executions(Status::Stopped) => self.stopped += count,
            // Only ends are counted.
            Counter::Executions(Status::Pending | Status::Executing) => {}
            Counter::Time(bucket) => self.times.add(*bucket, count),
            Counter::Documents => self.documents += count,
            Counter::Bytes => self.bytes += count,
            Counter::Model(spent, model) => {
                let tokens = self.models.entry(model.as_ref().to_owned()).or_default();
                *match spent {
                    Spent::Prompt => &mut tokens.prompt,
                    Spent::Completion => &mut tokens.completion,
                    Spent::Embedding => &mut tokens.embedding,
                    Spent::Cost => &mut tokens.cost_nanodollars,
                } += count;
            }
        }
    }
}
