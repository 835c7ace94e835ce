//! What is managed: organisations, keys, workflows, deployments. A change is
//! stored first and then brought into force; when it returns, it holds.

pub mod keys;
pub mod organisations;
pub mod platform_keys;

use millrace_entities::enums::WorkflowKind;
use millrace_entities::{deployment, workflow};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Engine;
use super::audit::{Action, Author, Subject};
use super::plan::{Faults, Plan, StepDefinition};
use super::settings::Settings;
use crate::clock;
use crate::ids::{self, Key};
use crate::secrets::SecretsError;
use crate::store::StoreError;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// Places that are wrong, with their cures.
    #[error("invalid workflow: {0:?}")]
    Steps(Faults),
    /// The key is revoked, switched off or expired.
    #[error("the key opens nothing any more")]
    KeyClosed,
    /// The configuration declares it.
    #[error("declared in the configuration")]
    Declared,
    /// The server does enough of it already.
    #[error("at its bound")]
    Busy,
    /// Secrets cannot be sealed or opened.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A workflow to be made or to take another's place.
#[derive(Debug, Clone)]
pub struct WorkflowDraft {
    /// Name, unique in the organisation.
    pub name: String,
    /// ETL or TASK.
    pub kind: WorkflowKind,
    /// Text for people.
    pub description: String,
    /// The steps.
    pub steps: Vec<StepDefinition>,
}

/// A deployment to be made or to take another's place.
#[derive(Debug, Clone)]
pub struct DeploymentDraft {
    /// The workflow it serves.
    pub workflow_id: Uuid,
    /// Name in URLs, unique in the organisation.
    pub api_name: String,
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    pub description: String,
    /// Whether it takes submissions.
    pub is_active: bool,
    /// Limits and times, in range.
    pub settings: Settings,
}

impl Engine {
    /// Makes a workflow.
    ///
    /// # Errors
    /// [`ManageError::Steps`], or [`StoreError::Conflict`] if the name is
    /// taken.
    pub async fn create_workflow(
        &self,
        author: &Author,
        organisation_id: Uuid,
        draft: WorkflowDraft,
    ) -> Result<workflow::Model, ManageError> {
        let row = workflow_row(organisation_id, Uuid::now_v7(), draft, 1).await?;
        let entry = author.entry(Action::Create, of_workflow(&row), &[]);
        self.store().create_workflow(row.clone(), entry).await?;
        Ok(row)
    }

    /// Replaces a workflow if it is still as `current`. Deployments that serve
    /// it get a new revision.
    ///
    /// # Errors
    /// [`ManageError::Steps`], [`StoreError::Stale`], or
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn replace_workflow(
        &self,
        author: &Author,
        current: workflow::Model,
        draft: WorkflowDraft,
    ) -> Result<workflow::Model, ManageError> {
        let expected = current.revision;
        let mut row =
            workflow_row(current.organisation_id, current.id, draft, expected + 1).await?;
        row.created_at = current.created_at;
        row.released_from = current.released_from.clone();
        let changed = changed_in_workflow(&current, &row);
        let entry = author.entry(Action::Change, of_workflow(&row), &changed);
        for deployment_id in self.store().replace_workflow(row.clone(), expected, entry).await? {
            self.refresh(deployment_id).await?;
        }
        Ok(row)
    }

    /// Deletes a workflow that no deployment serves.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Referenced`].
    pub async fn delete_workflow(
        &self,
        author: &Author,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let row = self.store().workflow(organisation_id, id).await?;
        let entry = author.entry(Action::Delete, of_workflow(&row), &[]);
        self.store().delete_workflow(organisation_id, id, entry).await
    }

    /// Makes a deployment and its first key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the workflow is not the organisation's,
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn create_deployment(
        &self,
        author: &Author,
        organisation_id: Uuid,
        draft: DeploymentDraft,
    ) -> Result<(deployment::Model, Key), StoreError> {
        let public_id = ids::public_id().map_err(|error| StoreError::Fault(error.to_string()))?;
        let row = deployment_row(organisation_id, Uuid::now_v7(), public_id, draft)?;
        let (stored, key) = keys::new_key(row.id, keys::KeyDraft::named("first key"))?;
        let entry = author.entry(Action::Create, of_deployment(&row), &[]);
        self.store().create_deployment(row.clone(), stored, entry).await?;
        self.refresh(row.id).await?;
        Ok((row, key))
    }

    /// Replaces a deployment, if it is still as `current`, by its next
    /// revision.
    ///
    /// # Errors
    /// [`StoreError::Stale`], [`StoreError::Conflict`] if the name is taken.
    pub async fn replace_deployment(
        &self,
        author: &Author,
        current: deployment::Model,
        draft: DeploymentDraft,
    ) -> Result<deployment::Model, StoreError> {
        let expected = current.revision;
        let mut row =
            deployment_row(current.organisation_id, current.id, current.public_id.clone(), draft)?;
        row.revision = expected + 1;
        row.created_at = current.created_at;
        row.released_from = current.released_from.clone();
        let changed = changed_in_deployment(&current, &row);
        let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
        let entry = author.entry(Action::Change, of_deployment(&row), &changed);
        self.store().replace_deployment(row.clone(), expected, entry).await?;
        self.refresh(row.id).await?;
        Ok(row)
    }

    /// Deletes a deployment. Its keys open nothing from now on; what it had
    /// accepted still ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_deployment(
        &self,
        author: &Author,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let row = self.store().deployment(organisation_id, id).await?;
        let entry = author.entry(Action::Delete, of_deployment(&row), &[]);
        self.store().delete_deployment(organisation_id, id, entry).await?;
        self.refresh(id).await
    }
}

pub(super) fn of_workflow(row: &workflow::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "workflow",
        id: row.id,
        name: &row.name,
    }
}

pub(super) fn of_deployment(row: &deployment::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "api-deployment",
        id: row.id,
        name: &row.api_name,
    }
}

pub(super) fn changed_in_workflow(
    old: &workflow::Model,
    new: &workflow::Model,
) -> Vec<&'static str> {
    changed(&[
        ("name", old.name != new.name),
        ("description", old.description != new.description),
        ("steps", old.steps != new.steps),
    ])
}

/// Names of the fields that changed.
fn changed(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
}

pub(super) fn changed_in_deployment(
    old: &deployment::Model,
    new: &deployment::Model,
) -> Vec<String> {
    let fields = [
        ("api_name", old.api_name != new.api_name),
        ("workflow", old.workflow_id != new.workflow_id),
        ("display_name", old.display_name != new.display_name),
        ("description", old.description != new.description),
        ("is_active", old.is_active != new.is_active),
    ];
    let own = fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned());
    // Read as settings first: what an older row does not name has its default.
    let settings = |row: &deployment::Model| {
        let read = serde_json::from_str::<Settings>(&row.settings);
        match read.and_then(serde_json::to_value) {
            Ok(Value::Object(settings)) => settings,
            _ => Map::new(),
        }
    };
    let (old, new) = (settings(old), settings(new));
    let other = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    own.chain(other.map(|(name, _)| name).chain(gone).cloned()).collect()
}

/// Checks steps off the asynchronous threads: their patterns and schemas are
/// compiled for it.
///
/// # Errors
/// [`ManageError::Steps`].
pub async fn check_steps(steps: Vec<StepDefinition>) -> Result<(), ManageError> {
    let compiled = tokio::task::spawn_blocking(move || Plan::compile(&steps).map(drop)).await;
    let fault = |_| StoreError::Fault("a step kind failed while it was built".into());
    compiled.map_err(fault)?.map_err(ManageError::Steps)
}

async fn workflow_row(
    organisation_id: Uuid,
    id: Uuid,
    draft: WorkflowDraft,
    revision: i32,
) -> Result<workflow::Model, ManageError> {
    let steps = json_text(&draft.steps)?;
    check_steps(draft.steps).await?;
    let now = clock::now();
    Ok(workflow::Model {
        id,
        organisation_id,
        name: draft.name,
        kind: draft.kind,
        description: draft.description,
        steps,
        revision,
        declared_in: None,
        released_from: None,
        created_at: now,
        updated_at: now,
    })
}

fn deployment_row(
    organisation_id: Uuid,
    id: Uuid,
    public_id: String,
    draft: DeploymentDraft,
) -> Result<deployment::Model, StoreError> {
    let now = clock::now();
    Ok(deployment::Model {
        id,
        organisation_id,
        workflow_id: draft.workflow_id,
        public_id,
        api_name: draft.api_name,
        display_name: draft.display_name,
        description: draft.description,
        settings: json_text(&draft.settings)?,
        revision: 1,
        is_active: draft.is_active,
        declared_in: None,
        released_from: None,
        created_at: now,
        updated_at: now,
    })
}

pub(super) fn json_text<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Fault(error.to_string()))
}
