//! What a reload is to change: declarations beside what the store has. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millrace_entities::{deployment, deployment_revision, organisation, workflow};
use serde_json::Value;
use uuid::Uuid;

use super::declaration::{Declaration, Served};
use super::outcome::{Difference, Fault, Item, Problem};
use crate::engine::audit::{Action, Author};
use crate::engine::{manage, sources};
use crate::ids;
use crate::store::StoreError;
use crate::store::declared::{Changes, Stored};

/// A name in an organisation.
type Named = (Uuid, String);

/// A workflow as it will be, and the names of its fields that change.
struct Next {
    row: workflow::Model,
    changed: Vec<String>,
}

/// The comparison while it is made.
pub(super) struct Comparison<'a> {
    author: &'a Author,
    now: DateTime<Utc>,
    organisations: HashMap<&'a str, &'a organisation::Model>,
    slugs: HashMap<Uuid, &'a str>,
    stored_workflows: HashMap<Named, &'a workflow::Model>,
    stored_deployments: HashMap<Named, &'a deployment::Model>,
    /// Every workflow that is there after the reload.
    workflows: HashMap<Uuid, Next>,
    workflow_ids: HashMap<Named, Uuid>,
    /// Known workflows and deployments that files declare.
    declared: HashSet<Uuid>,
    faults: Vec<Fault>,
    changes: Changes,
    difference: Difference,
}

impl<'a> Comparison<'a> {
    /// What is to change for the store to be as declared.
    ///
    /// # Errors
    /// Every declaration that does not fit.
    pub(super) fn make(
        author: &'a Author,
        now: DateTime<Utc>,
        declarations: &'a [Arc<Declaration>],
        stored: &'a Stored,
    ) -> Result<(Changes, Difference), Problem> {
        let mut comparison = Self::new(author, now, stored);
        let declarations = comparison.in_their_organisations(declarations);
        for (organisation, declaration) in &declarations {
            comparison.workflow(*organisation, declaration)?;
        }
        comparison.release_workflows();
        for (organisation, declaration) in &declarations {
            comparison.deployment(*organisation, declaration)?;
        }
        if !comparison.faults.is_empty() {
            comparison
                .faults
                .sort_by(|one, other| (&one.file, one.place).cmp(&(&other.file, other.place)));
            return Err(Problem::Faults(comparison.faults));
        }
        comparison.the_others(&stored.deployments)?;
        Ok((comparison.changes, comparison.difference))
    }

    fn new(author: &'a Author, now: DateTime<Utc>, stored: &'a Stored) -> Self {
        let workflow = |row: &'a workflow::Model| ((row.organisation_id, row.name.clone()), row);
        let deployment =
            |row: &'a deployment::Model| ((row.organisation_id, row.api_name.clone()), row);
        let organisations = &stored.organisations;
        Self {
            author,
            now,
            organisations: organisations.iter().map(|row| (row.slug.as_str(), row)).collect(),
            slugs: organisations.iter().map(|row| (row.id, row.slug.as_str())).collect(),
            stored_workflows: stored.workflows.iter().map(workflow).collect(),
            stored_deployments: stored.deployments.iter().map(deployment).collect(),
            workflows: stored
                .workflows
                .iter()
                .map(|row| (row.id, Next { row: row.clone(), changed: Vec::new() }))
                .collect(),
            workflow_ids: stored
                .workflows
                .iter()
                .map(|row| ((row.organisation_id, row.name.clone()), row.id))
                .collect(),
            declared: HashSet::new(),
            faults: Vec::new(),
            changes: Changes::default(),
            difference: Difference::default(),
        }
    }

    /// Declarations with the ids of their organisations. Names are unique.
    fn in_their_organisations(
        &mut self,
        declarations: &'a [Arc<Declaration>],
    ) -> Vec<(Uuid, &'a Declaration)> {
        let mut deployments: HashMap<(Uuid, &str), &str> = HashMap::new();
        let mut workflows: HashMap<(Uuid, &str), &str> = HashMap::new();
        let mut known = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            let Some(organisation) = self.organisations.get(declaration.org_id.as_str()) else {
                let reason = "there is no such organisation; make it, then reload";
                self.faults.push(declaration.fault("org_id", reason));
                continue;
            };
            let id = organisation.id;
            let name = (id, declaration.api_name.as_str());
            if let Some(other) = deployments.insert(name, &declaration.file) {
                let reason = format!("`{other}` declares this deployment too");
                self.faults.push(declaration.fault("api_name", &reason));
            }
            if let Served::Own(own) = &declaration.workflow
                && let Some(other) = workflows.insert((id, &own.name), &declaration.file)
            {
                let reason =
                    format!("`{other}` declares this workflow too; one may name the other's");
                self.faults.push(declaration.fault("workflow", &reason));
            }
            known.push((id, declaration.as_ref()));
        }
        known
    }

    /// The workflow that a file declares itself.
    fn workflow(&mut self, owner: Uuid, declaration: &Declaration) -> Result<(), StoreError> {
        let Served::Own(own) = &declaration.workflow else { return Ok(()) };
        let name = (owner, own.name.clone());
        let known = self.stored_workflows.get(&name).copied();
        let mut row = workflow::Model {
            id: Uuid::now_v7(),
            organisation_id: owner,
            name: own.name.clone(),
            kind: own.kind,
            description: own.description.clone(),
            steps: manage::json_text(&own.steps)?,
            revision: 1,
            declared_in: Some(declaration.file.clone()),
            released_from: None,
            created_at: self.now,
            updated_at: self.now,
        };
        let mut changed = Vec::new();
        if let Some(known) = known {
            if known.declared_in.is_none() && known.released_from.is_none() {
                let reason = format!(
                    "the workflow `{}` was made by the API; serve it with workflow = \"{}\", or choose another workflow.name",
                    own.name, own.name,
                );
                self.faults.push(declaration.fault("workflow", &reason));
                return Ok(());
            }
            if known.kind != own.kind {
                let reason = "the type of a workflow cannot change; choose another workflow.name";
                self.faults.push(declaration.fault("workflow.type", reason));
                return Ok(());
            }
            self.declared.insert(known.id);
            (row.id, row.created_at) = (known.id, known.created_at);
            changed = changed_in_workflow(known, &row);
            if changed.is_empty() {
                return Ok(());
            }
            row.revision = known.revision + 1;
        }
        self.workflow_ids.insert(name, row.id);
        self.put_workflow(known, row, changed);
        Ok(())
    }

    fn put_workflow(
        &mut self,
        known: Option<&workflow::Model>,
        row: workflow::Model,
        changed: Vec<String>,
    ) {
        let action = if known.is_some() { Action::Change } else { Action::Create };
        let fields: Vec<&str> = changed.iter().map(String::as_str).collect();
        self.changes.entries.push(self.author.entry(action, manage::of_workflow(&row), &fields));
        if let Some(known) = known {
            self.changes.seen_workflows.insert(known.id, known.revision);
        }
        self.changes.workflows.push(row.clone());
        self.workflows.insert(row.id, Next { row, changed });
    }

    /// Workflows whose file is gone stay, for whoever still serves them, and
    /// are the API's from now on.
    fn release_workflows(&mut self) {
        let released: Vec<&workflow::Model> = self
            .stored_workflows
            .values()
            .copied()
            .filter(|row| row.declared_in.is_some() && !self.declared.contains(&row.id))
            .collect();
        for known in released {
            let mut row = known.clone();
            row.released_from = row.declared_in.take();
            row.revision += 1;
            row.updated_at = self.now;
            self.put_workflow(Some(known), row, vec!["declared_in".into()]);
        }
    }

    fn deployment(&mut self, owner: Uuid, declaration: &Declaration) -> Result<(), StoreError> {
        let Some(workflow_id) = self.serving(owner, declaration) else { return Ok(()) };
        let name = (owner, declaration.api_name.clone());
        let known = self.stored_deployments.get(&name).copied();
        let mut row = deployment::Model {
            id: Uuid::now_v7(),
            organisation_id: owner,
            workflow_id,
            public_id: String::new(),
            api_name: declaration.api_name.clone(),
            display_name: declaration.display_name.clone(),
            description: declaration.description.clone(),
            settings: manage::json_text(&declaration.settings)?,
            revision: 1,
            is_active: declaration.is_active,
            declared_in: Some(declaration.file.clone()),
            released_from: None,
            created_at: self.now,
            updated_at: self.now,
        };
        let Some(known) = known else {
            row.public_id =
                ids::public_id().map_err(|error| StoreError::Fault(error.to_string()))?;
            let item = self.put_deployment(None, row, Vec::new())?;
            self.difference.added.push(item);
            return Ok(());
        };
        if known.declared_in.is_none() && known.released_from.is_none() {
            let reason = "the API made a deployment of this name; delete it or choose another name";
            self.faults.push(declaration.fault("api_name", reason));
            return Ok(());
        }
        self.declared.insert(known.id);
        row.id = known.id;
        row.public_id.clone_from(&known.public_id);
        row.created_at = known.created_at;
        row.revision = known.revision + 1;
        let mut fields = manage::changed_in_deployment(known, &row);
        if known.declared_in != row.declared_in {
            fields.push("declared_in".into());
        }
        fields.extend(self.changed_in_workflow_of(&row));
        if fields.is_empty() {
            self.difference.unchanged += 1;
            return Ok(());
        }
        let item = self.put_deployment(Some(known), row, fields)?;
        self.difference.changed.push(item);
        Ok(())
    }

    /// The workflow that a declaration serves, which is of the right type.
    fn serving(&mut self, owner: Uuid, declaration: &Declaration) -> Option<Uuid> {
        let name = match &declaration.workflow {
            Served::Named(name) => name,
            Served::Own(own) => &own.name,
        };
        let id = self.workflow_ids.get(&(owner, name.clone())).copied();
        let Some(next) = id.and_then(|id| self.workflows.get(&id)) else {
            if matches!(declaration.workflow, Served::Named(_)) {
                let reason =
                    "there is no such workflow; declare it here, or name one that is there";
                self.faults.push(declaration.fault("workflow", reason));
            }
            return None;
        };
        if declaration.deployment_type.is_some_and(|kind| kind != next.row.kind) {
            let reason = "its workflow is of the other type";
            self.faults.push(declaration.fault("deployment_type", reason));
            return None;
        }
        if let Some((place, cure)) = sources::misfit(&declaration.settings, next.row.kind) {
            self.faults.push(declaration.fault(place, cure));
            return None;
        }
        id
    }

    fn changed_in_workflow_of(&self, row: &deployment::Model) -> Vec<String> {
        let next = self.workflows.get(&row.workflow_id);
        let fields = next.into_iter().flat_map(|next| &next.changed);
        // Which file a workflow stands in is nothing to those that serve it.
        fields
            .filter(|name| *name != "declared_in")
            .map(|name| format!("workflow.{name}"))
            .collect()
    }

    fn put_deployment(
        &mut self,
        known: Option<&deployment::Model>,
        row: deployment::Model,
        fields: Vec<String>,
    ) -> Result<Item, StoreError> {
        let next = self.workflows.get(&row.workflow_id).ok_or(StoreError::Stale)?;
        let serves = &next.row;
        self.changes.revisions.push(deployment_revision::Model {
            deployment_id: row.id,
            revision: row.revision,
            kind: serves.kind,
            workflow_id: serves.id,
            steps: serves.steps.clone(),
            settings: row.settings.clone(),
            created_at: self.now,
        });
        // What a file does not change itself may change by the API meanwhile.
        if let Some(seen) =
            self.stored_workflows.get(&(serves.organisation_id, serves.name.clone()))
        {
            self.changes.seen_workflows.insert(seen.id, seen.revision);
        }
        let action = if known.is_some() { Action::Change } else { Action::Create };
        let named: Vec<&str> = fields.iter().map(String::as_str).collect();
        self.changes.entries.push(self.author.entry(action, manage::of_deployment(&row), &named));
        if let Some(known) = known {
            self.changes.seen_deployments.insert(known.id, known.revision);
        }
        let org_id = self.slugs.get(&row.organisation_id).copied().unwrap_or_default();
        let item = Item {
            id: row.id,
            org_id: org_id.to_owned(),
            api_name: row.api_name.clone(),
            file: row.declared_in.clone().or_else(|| row.released_from.clone()),
            fields,
            from_revision: known.map(|known| known.revision),
            to_revision: row.revision,
        };
        self.changes.deployments.push(row);
        Ok(item)
    }

    /// Deployments that no file declares: those whose file is gone are
    /// switched off, those that serve a changed workflow follow it.
    fn the_others(&mut self, stored: &[deployment::Model]) -> Result<(), StoreError> {
        for known in stored {
            if self.declared.contains(&known.id) {
                continue;
            }
            let mut row = known.clone();
            row.revision += 1;
            row.updated_at = self.now;
            let mut fields = self.changed_in_workflow_of(&row);
            if known.declared_in.is_some() {
                row.released_from = row.declared_in.take();
                row.is_active = false;
                fields.extend(["declared_in".into(), "is_active".into()]);
                let item = self.put_deployment(Some(known), row, fields)?;
                self.difference.removed.push(item);
            } else if !fields.is_empty() {
                let item = self.put_deployment(Some(known), row, fields)?;
                self.difference.changed.push(item);
            }
        }
        Ok(())
    }
}

fn changed_in_workflow(known: &workflow::Model, next: &workflow::Model) -> Vec<String> {
    let value = |steps: &str| serde_json::from_str::<Value>(steps).ok();
    let mut changed: Vec<String> =
        manage::changed_in_workflow(known, next).into_iter().map(ToOwned::to_owned).collect();
    // The same steps may be written otherwise.
    changed.retain(|name| name != "steps" || value(&known.steps) != value(&next.steps));
    if known.declared_in != next.declared_in {
        changed.push("declared_in".into());
    }
    changed
}
