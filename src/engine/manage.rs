//! What is managed: organisations, keys, workflows, deployments. A change is
//! stored first and then brought into force; when it returns, it holds.

use chrono::{DateTime, Utc};
use millrace_entities::enums::{Tier, WorkflowKind};
use millrace_entities::{api_key, deployment, organisation, platform_key, workflow};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Engine;
use super::audit::{Action, Author, Subject};
use super::plan::{Faults, Plan, StepDefinition};
use super::settings::Settings;
use crate::clock;
use crate::ids::{self, Key, KeyKind};
use crate::secrets::SecretsError;
use crate::store::StoreError;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// Places that are wrong, with their cures.
    #[error("invalid workflow: {0:?}")]
    Steps(Faults),
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
    /// Makes an organisation and its first platform key, with full access.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the slug is taken.
    pub async fn create_organisation(
        &self,
        author: &Author,
        slug: String,
        name: String,
    ) -> Result<(organisation::Model, Key), StoreError> {
        let key = new_key(KeyKind::Platform)?;
        let now = clock::now();
        let row = organisation::Model { id: Uuid::now_v7(), slug, name, created_at: now };
        let stored = platform_key::Model {
            id: Uuid::now_v7(),
            organisation_id: row.id,
            hash: key.hash().0.to_vec(),
            prefix: key.prefix(),
            last_four: key.last_four(),
            name: "first key".to_owned(),
            tier: Tier::FullAccess,
            is_active: true,
            expires_at: None,
            created_at: now,
        };
        let subject = Subject {
            organisation_id: Some(row.id),
            resource: "organization",
            id: row.id,
            name: &row.slug,
        };
        let entry = author.entry(Action::Create, subject, &[]);
        self.store().create_organisation(row.clone(), stored.clone(), entry).await?;
        self.put_manager(stored, row.clone()).await?;
        Ok((row, key))
    }

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
        let key = new_key(KeyKind::Deployment)?;
        let stored = key_row(&key, row.id, "first key".into(), None);
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

    /// Makes a key of a deployment.
    ///
    /// # Errors
    /// The store's.
    pub async fn create_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        description: String,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(api_key::Model, Key), StoreError> {
        let key = new_key(KeyKind::Deployment)?;
        let row = key_row(&key, deployment.id, description, expires_at);
        let entry = author.entry(Action::Create, of_key(deployment, &row), &[]);
        self.store().create_api_key(row.clone(), entry).await?;
        self.refresh(deployment.id).await?;
        Ok((row, key))
    }

    /// Revokes a key of a deployment. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let row = self.store().api_key(deployment.id, id).await?;
        let entry = author.entry(Action::Revoke, of_key(deployment, &row), &[]);
        self.store().revoke_api_key(deployment.id, id, entry).await?;
        self.refresh(deployment.id).await
    }
}

fn of_workflow(row: &workflow::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "workflow",
        id: row.id,
        name: &row.name,
    }
}

fn of_deployment(row: &deployment::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "api-deployment",
        id: row.id,
        name: &row.api_name,
    }
}

fn of_key<'a>(deployment: &deployment::Model, row: &'a api_key::Model) -> Subject<'a> {
    Subject {
        organisation_id: Some(deployment.organisation_id),
        resource: "key",
        id: row.id,
        name: &row.prefix,
    }
}

fn changed_in_workflow(old: &workflow::Model, new: &workflow::Model) -> Vec<&'static str> {
    let fields = [
        ("name", old.name != new.name),
        ("description", old.description != new.description),
        ("steps", old.steps != new.steps),
    ];
    fields.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
}

fn changed_in_deployment(old: &deployment::Model, new: &deployment::Model) -> Vec<String> {
    let fields = [
        ("api_name", old.api_name != new.api_name),
        ("workflow", old.workflow_id != new.workflow_id),
        ("display_name", old.display_name != new.display_name),
        ("description", old.description != new.description),
        ("is_active", old.is_active != new.is_active),
    ];
    let own = fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned());
    let settings = |row: &deployment::Model| {
        serde_json::from_str::<Map<String, Value>>(&row.settings).unwrap_or_default()
    };
    let (old, new) = (settings(old), settings(new));
    let settings = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    own.chain(settings.map(|(name, _)| name.clone())).collect()
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
        created_at: now,
        updated_at: now,
    })
}

fn key_row(
    key: &Key,
    deployment_id: Uuid,
    description: String,
    expires_at: Option<DateTime<Utc>>,
) -> api_key::Model {
    api_key::Model {
        id: Uuid::now_v7(),
        deployment_id,
        hash: key.hash().0.to_vec(),
        prefix: key.prefix(),
        last_four: key.last_four(),
        description,
        is_active: true,
        expires_at,
        created_at: clock::now(),
    }
}

fn new_key(kind: KeyKind) -> Result<Key, StoreError> {
    Key::generate(kind).map_err(|error| StoreError::Fault(error.to_string()))
}

fn json_text<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Fault(error.to_string()))
}
