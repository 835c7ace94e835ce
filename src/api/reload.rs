//! Deployments declared in files: brought into force by the operator.

use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::State;
use super::answer::{Answer, Answers};
use super::auth::Operator;
use super::query::Query;
use crate::engine::declared::Declarations;
use crate::engine::declared::outcome::{Difference, Item, Problem};
use crate::error::{ApiError, ApiResult, Code};

/// Faults that one answer names.
const MAX_FAULTS: usize = 1000;

/// What to do with the deployment files.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct ReloadQuery {
    /// Whether only to say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// A deployment that a reload concerns.
#[derive(Serialize, JsonSchema)]
pub struct ReloadItem {
    org_id: String,
    api_name: String,
    /// The file that declares it, or did; null for a deployment that the API made and that serves a declared workflow.
    file: Option<String>,
    /// Names of the fields that change.
    fields: Vec<String>,
    /// Its revision before; null if it is new.
    from_revision: Option<i32>,
    /// Its revision after.
    to_revision: i32,
}

impl From<Item> for ReloadItem {
    fn from(item: Item) -> Self {
        let Item { id: _, org_id, api_name, file, fields, from_revision, to_revision } = item;
        Self { org_id, api_name, file, fields, from_revision, to_revision }
    }
}

/// The difference between files and deployments.
#[derive(Serialize, JsonSchema)]
pub struct ReloadAnswer {
    /// Whether this only says what would change.
    dry_run: bool,
    /// Declared, and not there before.
    added: Vec<ReloadItem>,
    /// Declared otherwise than before, or serving a workflow that is.
    changed: Vec<ReloadItem>,
    /// No longer declared: switched off.
    removed: Vec<ReloadItem>,
    /// How many are declared as before.
    unchanged: usize,
}

impl Answers for ReloadAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The difference, which is in force")];
}

/// Reload the deployment files
/// Reads and checks all of them, then brings all that changed into force, or nothing. With `dry_run` it only says what would change.
#[api_operation(tag = "administration", operation_id = "reload_deployments")]
pub async fn reload(
    state: Data<State>,
    operator: Operator,
    query: Query<ReloadQuery>,
) -> ApiResult<Answer<ReloadAnswer>> {
    let dry_run = query.0.dry_run;
    let declarations = &state.declarations;
    let outcome = declarations.reload(operator.author().clone(), dry_run).await;
    let Difference { added, changed, removed, unchanged } =
        outcome.map_err(|problem| refusal(declarations, problem))?;
    let items = |items: Vec<Item>| items.into_iter().map(ReloadItem::from).collect();
    let (added, changed, removed) = (items(added), items(changed), items(removed));
    Ok(Answer::ok(ReloadAnswer { dry_run, added, changed, removed, unchanged }))
}

fn refusal(declarations: &Declarations, problem: Problem) -> ApiError {
    match problem {
        Problem::Store(error) => error.into(),
        Problem::Faults(faults) => {
            let folder = declarations.folder_name();
            let more = faults.len().saturating_sub(MAX_FAULTS);
            let more = (more > 0).then(|| (None, format!("and {more} more")));
            let told = faults.into_iter().take(MAX_FAULTS).map(|fault| {
                let place = format!("{folder}/{fault}");
                (Some(place.trim_end_matches('/').to_owned()), fault.reason)
            });
            ApiError::all(Code::InvalidDeclaration, told.chain(more))
        }
    }
}
