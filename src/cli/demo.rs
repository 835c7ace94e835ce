//! `millrace serve --demo`: two deployments over an invoice, and calls to
//! paste.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Duration;
use millrace_entities::enums::WorkflowKind;
use millrace_entities::{deployment, workflow};
use minijinja::context;
use sea_orm::ActiveEnum;
use serde::Deserialize;
use uuid::Uuid;

use crate::clock;
use crate::config::{Config, NamedConnection};
use crate::connections::Connection;
use crate::engine::Engine;
use crate::engine::audit::Author;
use crate::engine::manage::{DeploymentDraft, ManageError, WorkflowDraft};
use crate::engine::plan::StepDefinition;
use crate::engine::settings::Settings;
use crate::ids::Key;
use crate::store::StoreError;
use crate::store::page::Page;

/// The demo's organisation, and the name of its connection.
const DEMO: &str = "demo";

/// The database that the ETL deployment loads into.
const DATABASE: &str = "data/demo.db";

/// Where the demo document is written.
const DOCUMENT: &str = "data/demo/invoice.pdf";

const INVOICE: &[u8] = include_bytes!("../../demo/invoice.pdf");
const CALLS: &str = include_str!("../../demo/calls.txt");
const FIELDS: &str = include_str!("../../demo/invoice-fields.workflow.json");
const LINES: &str = include_str!("../../demo/invoice-lines.workflow.json");

/// Demo keys are made anew at each start, and expire.
const KEY_DAYS: i64 = 7;

/// More rows than the demo has.
const ALL: Page = Page { index: 0, size: 1000 };

#[derive(Deserialize)]
struct WorkflowFile {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    steps: Vec<StepDefinition>,
}

/// The connection that the ETL deployment loads into.
pub(super) fn add_connection(config: &mut Config) {
    let url = format!("sqlite://{DATABASE}?mode=rwc");
    config.connections.push(NamedConnection {
        org_id: DEMO.into(),
        name: DEMO.into(),
        connection: Connection::Sql { url: url.into() },
    });
}

/// Makes the demo what it should be, whatever an earlier start left, and
/// returns the text with the calls.
pub(super) async fn declare(
    engine: &Arc<Engine>,
    base: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let organisation = match engine.store().organisation(DEMO).await {
        Err(StoreError::NotFound) => {
            engine.create_organisation(&Author::server(), DEMO.into(), "Demo".into()).await?.0
        }
        other => other?,
    };
    let (fields, fields_key) = declare_one(engine, organisation.id, FIELDS).await?;
    let (lines, lines_key) = declare_one(engine, organisation.id, LINES).await?;
    let document = absolute(DOCUMENT)?;
    if let Some(folder) = document.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(&document, INVOICE).await?;
    let target = |deployment: &deployment::Model, key: &Key| {
        let url = format!("{base}/deployment/{}/", deployment.public_id);
        context! { key => key.reveal(), url }
    };
    let values = context! {
        base,
        fields => target(&fields, &fields_key),
        lines => target(&lines, &lines_key),
        document => document.display().to_string(),
        database => absolute(DATABASE)?.display().to_string(),
    };
    Ok(minijinja::Environment::new().render_str(CALLS, values)?)
}

fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(Path::new(path))
}

/// A workflow, its deployment of the same name, and a fresh key.
async fn declare_one(
    engine: &Arc<Engine>,
    organisation_id: Uuid,
    file: &str,
) -> Result<(deployment::Model, Key), Box<dyn std::error::Error + Send + Sync>> {
    let file: WorkflowFile = serde_json::from_str(file)?;
    let name = file.name.clone();
    let workflow = declare_workflow(engine, organisation_id, file).await?;
    let known = engine.store().deployments(organisation_id, ALL).await?.rows;
    if let Some((deployment, _)) = known.into_iter().find(|(row, _)| row.api_name == name) {
        let expires = clock::now() + Duration::days(KEY_DAYS);
        let (_, key) =
            engine.create_key(&Author::server(), &deployment, "demo".into(), Some(expires)).await?;
        return Ok((deployment, key));
    }
    let draft = DeploymentDraft {
        workflow_id: workflow.id,
        display_name: name.clone(),
        api_name: name,
        description: "Made by `millrace serve --demo`".into(),
        is_active: true,
        settings: Settings::default(),
    };
    Ok(engine.create_deployment(&Author::server(), organisation_id, draft).await?)
}

async fn declare_workflow(
    engine: &Arc<Engine>,
    organisation_id: Uuid,
    file: WorkflowFile,
) -> Result<workflow::Model, Box<dyn std::error::Error + Send + Sync>> {
    let kind = WorkflowKind::try_from_value(&file.kind)?;
    let draft = WorkflowDraft {
        name: file.name,
        kind,
        description: "Made by `millrace serve --demo`".into(),
        steps: file.steps,
    };
    let known = engine.store().workflows(organisation_id, ALL).await?.rows;
    let Some(current) = known.into_iter().find(|row| row.name == draft.name) else {
        return Ok(engine.create_workflow(&Author::server(), organisation_id, draft).await?);
    };
    let unchanged = serde_json::from_str::<Vec<StepDefinition>>(&current.steps)
        .is_ok_and(|steps| steps == draft.steps);
    if unchanged {
        return Ok(current);
    }
    let replaced: Result<_, ManageError> =
        engine.replace_workflow(&Author::server(), current, draft).await;
    Ok(replaced?)
}
