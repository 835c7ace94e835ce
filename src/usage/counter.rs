//! What can be counted, and its name in the store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use millrace_entities::enums::Status;
use sea_orm::ActiveEnum;

/// Characters of a model's name that are kept.
const MAX_MODEL: usize = 64;

/// Tokens that a model took and gave, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read by it.
    pub prompt: i64,
    /// Written by it.
    pub completion: i64,
    /// Turned into vectors.
    pub embedding: i64,
    /// In thousand-millionths of a dollar: one token may cost less than a
    /// millionth.
    pub cost_nanodollars: i64,
}

impl Tokens {
    /// The counters of a model that these add to.
    pub(super) fn counters(self, model: &Arc<str>) -> Vec<(Counter, i64)> {
        [
            (Spent::Prompt, self.prompt),
            (Spent::Completion, self.completion),
            (Spent::Embedding, self.embedding),
            (Spent::Cost, self.cost_nanodollars),
        ]
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(spent, count)| (Counter::Model(spent, Arc::clone(model)), count))
        .collect()
    }
}

/// What is spent on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spent {
    /// Tokens read by it.
    Prompt,
    /// Tokens written by it.
    Completion,
    /// Tokens turned into vectors.
    Embedding,
    /// Thousand-millionths of a dollar.
    Cost,
}

impl Spent {
    const ALL: [Self; 4] = [Self::Prompt, Self::Completion, Self::Embedding, Self::Cost];

    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Cost => "cost",
        }
    }
}

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Requests answered with this HTTP status.
    Requests(u16),
    /// Executions ended with this status.
    Executions(Status),
    /// Executions whose time is in this bucket of the histogram.
    Time(u16),
    /// Documents taken in.
    Documents,
    /// Their bytes.
    Bytes,
    /// Spent on a model.
    Model(Spent, Arc<str>),
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(status) => write!(f, "requests:{status}"),
            Self::Executions(status) => write!(f, "executions:{}", status.to_value()),
            Self::Time(bucket) => write!(f, "time:{bucket}"),
            Self::Documents => f.write_str("documents"),
            Self::Bytes => f.write_str("bytes"),
            Self::Model(spent, model) => write!(f, "{}:{model}", spent.name()),
        }
    }
}

impl FromStr for Counter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = "no such counter";
        match text.split_once(':') {
            None if text == "documents" => Ok(Self::Documents),
            None if text == "bytes" => Ok(Self::Bytes),
            None => Err(unknown),
            Some(("requests", status)) => status.parse().map(Self::Requests).map_err(|_| unknown),
            Some(("time", bucket)) => bucket.parse().map(Self::Time).map_err(|_| unknown),
            Some(("executions", status)) => Status::try_from_value(&status.to_owned())
                .map(Self::Executions)
                .map_err(|_| unknown),
            Some((kind, model)) => Spent::ALL
                .into_iter()
                .find(|spent| spent.name() == kind)
                .map(|spent| Self::Model(spent, model.into()))
                .ok_or(unknown),
        }
    }
}

/// A model's name as the store can keep it.
pub(super) fn model_name(model: &str) -> String {
    model.chars().filter(|char| !char.is_control()).take(MAX_MODEL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::Iterable;

    #[test]
    fn every_counter_is_read_back_from_its_name() {
        let mut counters =
            vec![Counter::Requests(202), Counter::Time(312), Counter::Documents, Counter::Bytes];
        counters.extend(Status::iter().map(Counter::Executions));
        counters.extend(Spent::ALL.map(|spent| Counter::Model(spent, "a:b".into())));
        for counter in counters {
            assert_eq!(counter.to_string().parse(), Ok(counter));
        }
        assert!("time:".parse::<Counter>().is_err());
    }

    #[test]
    fn the_name_of_a_model_is_cut_and_printable() {
        assert_eq!(model_name("m\0\n1"), "m1");
        assert_eq!(model_name(&"ä".repeat(100)).chars().count(), MAX_MODEL);
    }
}
