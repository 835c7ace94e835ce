//! An execution that has ended is run again, as a new one.

use std::sync::Arc;

use millrace_entities::execution as row;
use serde::Deserialize;
use uuid::Uuid;

use super::Engine;
use super::audit::{Action, Author, Subject};
use super::deployment::Refusal;
use super::lifecycle;
use super::plan::{Revision, StepDefinition};
use crate::clock;
use crate::steps::DocumentRef;
use crate::store::StoreError;
use crate::store::committer::{Acceptance, CommitError};
use crate::store::records::Summary;
use crate::store::retention::has_no_content;

/// Why an execution is not run again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// It has not ended.
    #[error("not ended")]
    NotEnded,
    /// What was submitted is gone.
    #[error("expired")]
    Expired,
    /// Its deployment is gone.
    #[error("the deployment was deleted")]
    DeploymentDeleted,
    /// The deployment's workflow has no step of that id, but these.
    #[error("no such step")]
    UnknownStep(Vec<String>),
    /// The steps before that one are not those that ran.
    #[error("the steps before it have changed")]
    StepsChanged,
    /// There is no place for it.
    #[error("not admitted: {0:?}")]
    Refused(Refusal),
    /// It was not stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is read of a submission to repeat it.
#[derive(Deserialize)]
struct Tagged {
    #[serde(default)]
    tags: Vec<String>,
}

impl Engine {
    /// Runs an execution of the author's organisation again, on what its
    /// deployment runs now: a new execution with the same submission. With
    /// `from_step` it takes over what is recorded of the steps before that
    /// one. It takes a place as any submission does, but no permit of the
    /// rate limit.
    ///
    /// # Errors
    /// See [`RerunError`].
    pub async fn rerun(
        self: &Arc<Self>,
        author: &Author,
        original: &Summary,
        from_step: Option<&str>,
    ) -> Result<row::Model, RerunError> {
        if !lifecycle::is_terminal(original.status) {
            return Err(RerunError::NotEnded);
        }
        let entry = self.context.directory.entry(original.deployment_id);
        let entry = entry.ok_or(RerunError::DeploymentDeleted)?;
        let original = self.store().execution(entry.id, original.id).await?;
        let is_over = original.expires_at.is_some_and(|end| end <= clock::now());
        if is_over || has_no_content(&original) {
            return Err(RerunError::Expired);
        }
        let admission = self.admit_as(&entry, false).await.1.map_err(RerunError::Refused)?;
        let from = match from_step {
            Some(step) => Some(self.place_of(step, &original, &admission.revision).await?),
            None => None,
        };
        let read = off_thread(move || {
            let Tagged { tags } = serde_json::from_str(&original.request)?;
            let mut documents: Vec<DocumentRef> = serde_json::from_str(&original.documents)?;
            // An id names a document within its own execution.
            documents.iter_mut().for_each(|document| document.id = Uuid::now_v7());
            Ok((original, tags, documents))
        });
        let (original, tags, documents) = read.await?;
        let mut row = self.new_row(&entry, &admission, None, original.request, &documents)?;
        row.rerun_of = Some(original.id);
        row.rerun_from = from;
        row.gathered = original.gathered;
        let run = row.gathered.map(|_| admission.revision.workflow_id);
        let subject = Subject {
            organisation_id: Some(entry.organisation_id),
            resource: "execution",
            id: row.id,
            name: &entry.api_name.load_full(),
        };
        let audit = Some(author.entry(Action::Rerun, subject, &[]));
        let acceptance = Acceptance { row: row.clone(), tags, key: None, audit, run };
        let bytes = documents.iter().map(|one| one.size).sum();
        match self.store_accepted(&entry, admission, acceptance, bytes).await {
            Ok(()) => Ok(row),
            // The sweeper was faster.
            Err(CommitError::Expired) => Err(RerunError::Expired),
            Err(error) => Err(error.into()),
        }
    }

    /// Position of a step in what the deployment runs now, if the steps before
    /// it are those that the original ran.
    async fn place_of(
        &self,
        step: &str,
        original: &row::Model,
        current: &Arc<Revision>,
    ) -> Result<i32, RerunError> {
        let former = match original.revision == current.number {
            true => None,
            false => match self.store().revision(original.deployment_id, original.revision).await {
                Ok(former) => Some(former.steps),
                // Nobody can say what ran.
                Err(StoreError::NotFound) => Some("[]".to_owned()),
                Err(error) => return Err(error.into()),
            },
        };
        let (step, current) = (step.to_owned(), Arc::clone(current));
        let place = off_thread(move || {
            let steps = current.definitions()?;
            let Some(place) = steps.iter().position(|known| known.id() == step) else {
                let known = steps.iter().map(|known| known.id().to_owned()).collect();
                return Ok(Err(RerunError::UnknownStep(known)));
            };
            let Some(former) = former else { return Ok(Ok(place)) };
            let former: Vec<StepDefinition> = serde_json::from_str(&former)?;
            let same = former.len() >= place
                && former.iter().zip(&steps).take(place).all(|(old, new)| old.does_as(new));
            Ok(if same { Ok(place) } else { Err(RerunError::StepsChanged) })
        });
        let place = place.await??;
        Ok(i32::try_from(place).unwrap_or(i32::MAX))
    }
}

/// Reads stored JSON, which may be large, off the asynchronous threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> serde_json::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let read = tokio::task::spawn_blocking(work).await;
    let read = read.map_err(|error| StoreError::Fault(error.to_string()))?;
    read.map_err(|error| StoreError::Fault(error.to_string()))
}
