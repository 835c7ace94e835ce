//! The events of an execution wherever it is: live on this node, live on
//! another, or over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::Engine;
use super::events::{Event, EventId, Reader, State, StepOutcome, What, accepted, begun};
use super::lifecycle;
use super::result::NO_DOCUMENT;
use crate::steps::DocumentRef;
use crate::store::StoreError;
use crate::store::records::{Scope, StepMark, Summary};

/// Between looks at an execution that is not live on this node.
const ELSEWHERE: Duration = Duration::from_millis(250);

/// Most events that are handed over at once.
const AT_ONCE: usize = 256;

/// A step of the workflow that an execution runs.
#[derive(Debug, Clone, Deserialize)]
pub struct StepName {
    /// Name of the step in its workflow; the kind's name if absent.
    id: Option<String>,
    /// The step kind.
    pub uses: String,
}

impl StepName {
    /// Name of the step in its workflow.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.uses)
    }
}

/// What an execution's events are about.
#[derive(Debug, Default)]
pub struct Outline {
    /// The documents; none if it runs without.
    pub documents: Vec<DocumentRef>,
    /// The steps; none if its revision is gone.
    pub steps: Vec<StepName>,
}

impl Outline {
    /// The name that a document goes by.
    pub fn file(&self, document: usize) -> &str {
        self.documents.get(document).map_or(NO_DOCUMENT, |document| &document.name)
    }

    /// A step's name in its workflow.
    pub fn step(&self, step: usize) -> &str {
        self.steps.get(step).map_or("", StepName::id)
    }

    /// Steps of one document.
    fn length(&self, row: &Summary) -> usize {
        let known = usize::try_from(row.steps_total / row.documents_total.max(1));
        if self.steps.is_empty() { known.unwrap_or_default() } else { self.steps.len() }
    }
}

impl Engine {
    /// What the events of an execution are about.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not in scope.
    pub async fn outline(&self, scope: Scope, row: &Summary) -> Result<Outline, StoreError> {
        let documents = self.store().documents(scope, row.id).await?;
        let steps = match self.store().revision(row.deployment_id, row.revision).await {
            Ok(revision) => revision.steps,
            Err(StoreError::NotFound) => "[]".to_owned(),
            Err(error) => return Err(error),
        };
        let parse = move || -> serde_json::Result<Outline> {
            let documents = serde_json::from_str(&documents)?;
            Ok(Outline { documents, steps: serde_json::from_str(&steps)? })
        };
        let parsed = tokio::task::spawn_blocking(parse).await;
        let parsed = parsed.map_err(|error| StoreError::Fault(error.to_string()))?;
        parsed.map_err(|error| StoreError::Fault(error.to_string()))
    }

    /// All events of an execution so far.
    ///
    /// # Errors
    /// The store's.
    pub async fn history(
        &self,
        row: &Summary,
        outline: &Outline,
    ) -> Result<Vec<Event>, StoreError> {
        match self.reader(row.deployment_id, row.id) {
            Some(mut reader) => Ok(reader.after(None, usize::MAX)),
            None => Ok(of_rows(row, self.store().step_marks(row.id).await?, outline)),
        }
    }

    /// Follows an execution of the deployment after `cursor`. None if nothing
    /// can come after it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not the deployment's.
    pub async fn follow(
        self: &Arc<Self>,
        deployment_id: Uuid,
        id: Uuid,
        cursor: Option<EventId>,
    ) -> Result<Option<Follower>, StoreError> {
        let scope = Scope::Deployment(deployment_id);
        let row = self.store().summary(scope, id).await?;
        let end = row.ended_at.map(|at| EventId::new(row.attempt, at));
        if end.is_some_and(|end| cursor >= Some(end)) {
            return Ok(None);
        }
        let outline = self.outline(scope, &row).await?;
        Ok(Some(Follower {
            engine: Arc::clone(self),
            deployment_id,
            id,
            gathers: row.gathered.is_some(),
            outline,
            cursor,
            reader: None,
            over: false,
        }))
    }

    fn reader(&self, deployment_id: Uuid, id: Uuid) -> Option<Reader> {
        let entry = self.context().directory.at_work(deployment_id)?;
        entry.live.get(&id).map(|live| live.events.follow())
    }
}

/// A place in the events of an execution.
pub struct Follower {
    engine: Arc<Engine>,
    deployment_id: Uuid,
    id: Uuid,
    gathers: bool,
    outline: Outline,
    cursor: Option<EventId>,
    reader: Option<Reader>,
    over: bool,
}

impl Follower {
    /// The execution.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What the events are about.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Whether the last event was handed over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The next events, as far as there are any.
    ///
    /// # Errors
    /// The store's.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        if self.reader.is_none() {
            self.reader = self.engine.reader(self.deployment_id, self.id);
        }
        let found = match &mut self.reader {
            Some(reader) => reader.after(self.cursor, AT_ONCE),
            None => self.stored().await?,
        };
        // What it gathers itself is not known from its beginning.
        let named = self.outline.documents.len();
        if self.gathers && found.iter().any(|event| event.document() >= Some(named)) {
            let scope = Scope::Deployment(self.deployment_id);
            let row = self.engine.store().summary(scope, self.id).await?;
            self.outline = self.engine.outline(scope, &row).await?;
        }
        if let Some(last) = found.last() {
            self.cursor = Some(last.id);
            self.over = last.is_last();
        }
        Ok(found)
    }

    async fn stored(&self) -> Result<Vec<Event>, StoreError> {
        let store = self.engine.store();
        let row = store.summary(Scope::Deployment(self.deployment_id), self.id).await?;
        let events = of_rows(&row, store.step_marks(self.id).await?, &self.outline);
        Ok(events.into_iter().filter(|event| Some(event.id) > self.cursor).take(AT_ONCE).collect())
    }

    /// Waits until there may be more. May be dropped while it waits.
    pub async fn changed(&mut self) {
        let Some(reader) = &mut self.reader else {
            return tokio::time::sleep(ELSEWHERE).await;
        };
        if !reader.changed().await {
            // Over, or another node's from now on.
            self.reader = None;
        }
    }
}

/// The events of an execution as far as they are certain from the store: what
/// a document does next may precede what another one has done already.
fn of_rows(row: &Summary, marks: Vec<StepMark>, outline: &Outline) -> Vec<Event> {
    let of_documents = of_documents(marks, outline.length(row));
    let mut events = vec![accepted(row.created_at)];
    events.extend(row.started_at.map(begun));
    let known = events.last().map(|event| event.id);
    let is_over = lifecycle::is_terminal(row.status);
    let certain = if is_over { None } else { horizon(&of_documents, row.walks(), known) };
    events.extend(of_documents.into_iter().filter(|event| is_over || Some(event.id) <= certain));
    if let Some(ended_at) = row.ended_at.filter(|_| is_over) {
        let error = row.error.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let id = EventId::new(row.attempt, ended_at);
        events.push(Event::recorded(id, What::Execution(row.status), error.map(Arc::new)));
    }
    events
}

/// The last event that nothing unknown can precede: whatever a document does
/// next comes after what is known of it. `known` is of all documents.
fn horizon(events: &[Event], documents: usize, known: Option<EventId>) -> Option<EventId> {
    let mut last = vec![(known, false); documents];
    for event in events {
        let place = event.document().and_then(|document| last.get_mut(document));
        if let Some(place) = place {
            let ended = matches!(event.what, What::Document(_, state) if state != State::Started);
            *place = (Some(event.id), ended);
        }
    }
    let running = last.iter().filter(|(_, ended)| !ended).map(|(last, _)| *last);
    running.min().unwrap_or_else(|| events.last().map(|event| event.id))
}

/// The events of documents whose workflow has `length` steps, from what is
/// recorded of the steps.
pub(super) fn of_documents(marks: Vec<StepMark>, length: usize) -> Vec<Event> {
    let mut documents: BTreeMap<i32, Vec<StepMark>> = BTreeMap::new();
    // What was taken over from another execution did not happen in this one.
    for mark in marks.into_iter().filter(|mark| mark.attempt > 0) {
        documents.entry(mark.document_index).or_default().push(mark);
    }
    let mut events = Vec::new();
    for mut marks in documents.into_values() {
        marks.sort_by_key(|mark| mark.step_index);
        for (place, mark) in marks.iter().enumerate() {
            if of_step(mark, place == 0, length, &mut events) {
                break;
            }
        }
    }
    events.sort_by_key(|event| event.id);
    events
}

/// The times of a document are those of its first and last step, a microsecond
/// before and after. Returns whether the document ended.
fn of_step(mark: &StepMark, opens: bool, length: usize, events: &mut Vec<Event>) -> bool {
    let (Ok(document), Ok(step)) =
        (usize::try_from(mark.document_index), usize::try_from(mark.step_index))
    else {
        return false;
    };
    let mut add = |id, what, error, tries| {
        events.push(Event::recorded(id, what, error).tried(tries));
    };
    let began = EventId::new(mark.attempt, mark.started_at);
    let ended = EventId::new(mark.attempt, mark.ended_at);
    if opens {
        add(began.shifted(-1), What::Document(document, State::Started), None, 0);
    }
    add(began, What::Step(document, step, State::Started), None, 0);
    let error: Option<Arc<serde_json::Value>> =
        mark.error.as_deref().and_then(|text| serde_json::from_str(text).ok()).map(Arc::new);
    let outcome =
        StepOutcome { given: mark.given, error: error.as_deref(), is_last: step + 1 == length };
    let (is_fatal, end) = (outcome.is_fatal(), outcome.document());
    add(ended, What::Step(document, step, outcome.state()), error.clone(), mark.tries);
    if let Some(state) = end {
        add(ended.shifted(1), What::Document(document, state), error.filter(|_| is_fatal), 0);
    }
    end.is_some()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::store::records::Given;

    fn mark(document: i32, step: i32, from: i64, to: i64) -> StepMark {
        StepMark {
            document_index: document,
            step_index: step,
            step_id: "s".into(),
            attempt: 1,
            output_hash: None,
            given: Given::Output,
            error: None,
            started_at: DateTime::from_timestamp_micros(from).unwrap(),
            ended_at: DateTime::from_timestamp_micros(to).unwrap(),
            tries: 1,
        }
    }

    #[test]
    fn what_an_unfinished_document_may_precede_is_held_back() {
        let certain = |marks: Vec<StepMark>, documents| {
            let known = Some(EventId::new(1, DateTime::from_timestamp_micros(10).unwrap()));
            horizon(&of_documents(marks, 2), documents, known)
                .map(|id| id.time().timestamp_micros())
        };
        let ended = vec![mark(0, 0, 20, 30), mark(0, 1, 40, 50)];
        assert_eq!(certain(Vec::new(), 1), Some(10));
        assert_eq!(certain(ended.clone(), 1), Some(51), "a document ends after its last step");
        assert_eq!(certain(ended.clone(), 2), Some(10), "the other may have begun before");
        let both = [ended, vec![mark(1, 0, 22, 33)]].concat();
        assert_eq!(certain(both, 2), Some(33));
    }
}
