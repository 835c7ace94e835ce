//! Connections that organisations store: made, changed, tried, and brought
//! into force on this node and the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millrace_entities::connection;
use uuid::Uuid;

use super::Engine;
use super::audit::{Action, Author, Subject};
use super::context::Context;
use super::directory::Manager;
use super::manage::ManageError;
use super::plan::{Faults, StepDefinition};
use crate::clock;
use crate::connections::form::{self, Secrets, Settings};
use crate::connections::object_store::Reach;
use crate::connections::probe::{self, Trial};
use crate::connections::{Connection, Connections, Kind, Stored, declared_id, local};
use crate::secrets::{Keyring, SecretsError};
use crate::steps::{KINDS, Services};
use crate::store::{Store, StoreError};

/// A connection to be made or to take another's place; its settings have been
/// checked.
#[derive(Debug, Clone)]
pub struct ConnectionDraft {
    /// Name, unique in the organisation.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// What kind of system it leads to.
    pub kind: Kind,
    /// Its settings with their secrets.
    pub settings: Settings,
}

impl Engine {
    /// Makes a connection of the manager's organisation.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken,
    /// [`SecretsError::NoKey`] if it has secrets that cannot be sealed.
    pub async fn create_connection(
        &self,
        author: &Author,
        owner: &Manager,
        draft: ConnectionDraft,
    ) -> Result<connection::Model, ManageError> {
        self.refuse_declared_name(owner, &draft.name)?;
        let row = self.connection_row(owner, Uuid::now_v7(), draft)?;
        let entry = author.entry(Action::Create, of_connection(&row), &[]);
        self.store().create_connection(row.clone(), entry).await?;
        self.reload_connections().await?;
        Ok(row)
    }

    /// Replaces a connection if it is still as `current`. It holds for the
    /// next step when this returns.
    ///
    /// # Errors
    /// As [`Engine::create_connection`], [`StoreError::Stale`], and
    /// [`StoreError::Referenced`] if it is named otherwise and workflows name
    /// it.
    pub async fn replace_connection(
        &self,
        author: &Author,
        owner: &Manager,
        current: connection::Model,
        draft: ConnectionDraft,
    ) -> Result<connection::Model, ManageError> {
        if draft.name != current.name {
            self.refuse_declared_name(owner, &draft.name)?;
        }
        let changed = self.changed_fields(&current, &draft)?;
        let mut row = self.connection_row(owner, current.id, draft)?;
        row.revision = current.revision + 1;
        row.created_at = current.created_at;
        let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
        let entry = author.entry(Action::Change, of_connection(&row), &changed);
        self.store().replace_connection(row.clone(), current.revision, entry).await?;
        self.reload_connections().await?;
        Ok(row)
    }

    /// Deletes a connection that neither a workflow nor a webhook names.
    ///
    /// # Errors
    /// [`ManageError::Declared`], [`StoreError::NotFound`],
    /// [`StoreError::Referenced`].
    pub async fn delete_connection(
        &self,
        author: &Author,
        owner: &Manager,
        id: Uuid,
    ) -> Result<(), ManageError> {
        let row = self.stored_connection(owner, id).await?;
        let entry = author.entry(Action::Delete, of_connection(&row), &[]);
        self.store().delete_connection(owner.organisation_id, id, entry).await?;
        Ok(self.reload_connections().await?)
    }

    /// The stored connection of that id.
    ///
    /// # Errors
    /// [`ManageError::Declared`] if the configuration declares it,
    /// [`StoreError::NotFound`].
    pub async fn stored_connection(
        &self,
        owner: &Manager,
        id: Uuid,
    ) -> Result<connection::Model, ManageError> {
        if self.declared_connection(owner, id).is_some() {
            return Err(ManageError::Declared);
        }
        Ok(self.store().connection(owner.organisation_id, id).await?)
    }

    /// Name and kind of the connection of that id, if the configuration
    /// declares it for the organisation.
    pub fn declared_connection(&self, owner: &Manager, id: Uuid) -> Option<(String, Kind)> {
        let mut declared = self.services().connections.declared(&owner.org_id);
        declared.find_map(|(name, connection)| {
            let found = declared_id(&owner.org_id, name) == id;
            found.then(|| (name.to_owned(), connection.kind()))
        })
    }

    /// All settings of a connection, its secrets included.
    ///
    /// # Errors
    /// [`SecretsError::Unreadable`].
    pub fn connection_settings(&self, row: &connection::Model) -> Result<Settings, SecretsError> {
        whole(self.services().connections.keyring(), row)
    }

    /// Tries the connection of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`ManageError::Busy`] if too many are tried.
    pub async fn try_connection(&self, owner: &Manager, id: Uuid) -> Result<Trial, ManageError> {
        let name = match self.declared_connection(owner, id) {
            Some((name, _)) => name,
            None => self.store().connection(owner.organisation_id, id).await?.name,
        };
        let services = self.services();
        let found = services.connections.get(&owner.org_id, &name).ok_or(StoreError::NotFound)?;
        let place = services.connections.trial().ok_or(ManageError::Busy)?;
        let declared = services.connections.is_declared(&owner.org_id, &name);
        let reach = Reach::of(&services.outbound, declared);
        Ok(probe::probe(found, Arc::clone(&services.sql), reach, place).await)
    }

    /// The steps whose connection the organisation does not have, or has of
    /// another kind. A workflow may be written before its connections, so this
    /// is no fault when it is.
    pub fn missing_connections(&self, owner: &Manager, steps: &[StepDefinition]) -> Faults {
        let connections = &self.services().connections;
        let missing = |(index, step): (usize, &StepDefinition)| {
            let wanted = KINDS.iter().find(|kind| kind.name == step.uses)?.connection?;
            let name = step.with.get("connection")?.as_str()?;
            let found = connections.get(&owner.org_id, name);
            let fits = found.is_some_and(|connection| connection.kind() == wanted);
            let cure = format!("there is no connection of this name and of kind {}", wanted.name());
            (!fits).then(|| (format!("steps[{index}].with.connection"), cure))
        };
        steps.iter().enumerate().filter_map(missing).collect()
    }

    async fn reload_connections(&self) -> Result<(), StoreError> {
        reload(self.store(), self.services()).await.map(drop)
    }

    fn services(&self) -> &Arc<Services> {
        &self.context().services
    }

    fn refuse_declared_name(&self, owner: &Manager, name: &str) -> Result<(), StoreError> {
        let mut declared = self.services().connections.declared(&owner.org_id);
        if declared.any(|(taken, _)| taken == name) {
            return Err(StoreError::Conflict(name.to_owned()));
        }
        Ok(())
    }

    fn connection_row(
        &self,
        owner: &Manager,
        id: Uuid,
        draft: ConnectionDraft,
    ) -> Result<connection::Model, ManageError> {
        let (settings, secrets) = form::part(draft.kind, draft.settings);
        let place = (owner.organisation_id, id);
        let sealed = seal(self.services().connections.keyring(), place, &secrets)?;
        let now = clock::now();
        Ok(connection::Model {
            id,
            organisation_id: owner.organisation_id,
            name: draft.name,
            kind: draft.kind.name().to_owned(),
            description: draft.description,
            settings: serde_json::Value::Object(settings).to_string(),
            sealed,
            revision: 1,
            created_at: now,
            updated_at: now,
        })
    }

    /// Names of the fields that a draft changes, never their values.
    fn changed_fields(
        &self,
        current: &connection::Model,
        draft: &ConnectionDraft,
    ) -> Result<Vec<String>, SecretsError> {
        let old = self.connection_settings(current)?;
        let new = &draft.settings;
        let gone = old.keys().filter(|field| !new.contains_key(*field));
        let changed = new.keys().filter(|field| old.get(*field) != new.get(*field));
        let own = [
            ("name", current.name != draft.name),
            ("description", current.description != draft.description),
        ];
        let own =
            own.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field.to_owned());
        Ok(own.chain(changed.chain(gone).cloned()).collect())
    }
}

fn of_connection(row: &connection::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "connection",
        id: row.id,
        name: &row.name,
    }
}

/// What a secret is bound to: neither another row nor another field can take
/// its sealed form.
fn place((organisation_id, id): (Uuid, Uuid), field: &str) -> String {
    format!("connection/{organisation_id}/{id}/{field}")
}

fn seal(keyring: &Keyring, row: (Uuid, Uuid), secrets: &Secrets) -> Result<String, ManageError> {
    let sealed = secrets.iter().map(|(field, secret)| {
        use secrecy::ExposeSecret;
        Ok((field, keyring.seal(&place(row, field), secret.expose_secret())?))
    });
    let sealed: BTreeMap<_, _> = sealed.collect::<Result<_, SecretsError>>()?;
    Ok(serde_json::to_string(&sealed).map_err(|error| StoreError::Fault(error.to_string()))?)
}

/// The sealed secrets of a row, by their places in the settings.
pub fn sealed(row: &connection::Model) -> BTreeMap<String, String> {
    serde_json::from_str(&row.sealed).unwrap_or_default()
}

/// The settings of a row that may be shown.
pub fn shown(row: &connection::Model) -> Settings {
    serde_json::from_str(&row.settings).unwrap_or_default()
}

fn open(keyring: &Keyring, row: &connection::Model) -> Result<Secrets, SecretsError> {
    let whose = (row.organisation_id, row.id);
    sealed(row)
        .into_iter()
        .map(|(field, text)| {
            let secret = keyring.open(&place(whose, &field), &text)?;
            Ok((field, secret))
        })
        .collect()
}

fn whole(keyring: &Keyring, row: &connection::Model) -> Result<Settings, SecretsError> {
    Ok(form::whole(shown(row), &open(keyring, row)?))
}

/// Brings what is stored into force. Returns how many connections cannot be
/// opened by the keys there are; those are left out, and so is what this
/// server no longer allows.
///
/// # Errors
/// The store's.
pub async fn reload(store: &Store, services: &Arc<Services>) -> Result<usize, StoreError> {
    let (version, rows) = store.all_connections().await?;
    let services = Arc::clone(services);
    let opening = tokio::task::spawn_blocking(move || {
        let connections = &services.connections;
        let mut by_name = HashMap::with_capacity(rows.len());
        let mut closed = 0;
        for (row, org_id) in rows {
            let Ok(settings) = whole(connections.keyring(), &row) else {
                tracing::error!(connection = %row.id, "a stored connection cannot be opened");
                closed += 1;
                continue;
            };
            match allowed(connections, &org_id, &row.kind, settings) {
                Some(connection) => _ = by_name.insert((org_id, row.name), Arc::new(connection)),
                None => {
                    tracing::warn!(connection = %row.id, "a stored connection is not allowed here");
                }
            }
        }
        connections.put(Stored { version, by_name });
        services.sql.retain(&connections.sql_urls());
        closed
    });
    opening.await.map_err(|_| StoreError::Fault("opening connections failed".into()))
}

fn allowed(
    connections: &Connections,
    org_id: &str,
    kind: &str,
    settings: Settings,
) -> Option<Connection> {
    let connection = form::read(Kind::parse(kind)?, settings).ok()?;
    let faults = local::faults(&connection, org_id, connections.local_folders());
    faults.is_empty().then_some(connection)
}

/// Seals anew what a previous key has sealed.
pub(super) async fn seal_anew(context: Arc<Context>) {
    if let Err(error) = reseal(&context).await {
        tracing::warn!(%error, "secrets are still sealed with a previous key");
    }
}

async fn reseal(context: &Context) -> Result<(), ManageError> {
    let keyring = context.services.connections.keyring();
    if !keyring.can_seal() {
        return Ok(());
    }
    let mut count = 0_usize;
    for (row, _) in context.store.all_connections().await?.1 {
        if sealed(&row).values().all(|text| keyring.is_current(text)) {
            continue;
        }
        let fresh = seal(keyring, (row.organisation_id, row.id), &open(keyring, &row)?)?;
        count += usize::from(context.store.reseal(row, fresh).await?);
    }
    if count > 0 {
        tracing::info!(count, "connections sealed with the new key");
    }
    Ok(())
}
