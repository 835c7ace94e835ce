//! A workflow's steps: how they are written, checked and made ready to run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use millrace_entities::deployment_revision;
use millrace_entities::enums::WorkflowKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::flow::{self, OnError};
use super::retry::Retry;
use super::settings::Settings;
use crate::schema::Schema;
use crate::steps::extract_text::ExtractTextStep;
use crate::steps::{self, Condition, KINDS, Step, StepKind};
use crate::store::committer::Notice;

/// Steps in one workflow.
pub const MAX_STEPS: usize = 100;

/// Longest time of one try of a step, in seconds.
const MAX_TIMEOUT: u32 = 86_400;

/// The form of a step's id, as a pattern.
pub const STEP_ID: &str = "^[A-Za-z_][A-Za-z0-9_]{0,63}$";

/// A step as a workflow writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDefinition {
    /// Name of the step in its workflow; the kind's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The step kind.
    pub uses: String,
    /// JSON pointer (RFC 6901) into the context that selects what the step
    /// works on; the output of the step before it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Expression of minijinja that says whether it runs; it does if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The kind's parameters.
    #[serde(default = "no_parameters")]
    pub with: Value,
    /// What its failure means.
    #[serde(default, skip_serializing_if = "OnError::is_default")]
    pub on_error: OnError,
    /// When it is tried again; as the deployment says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Time for one try, in seconds; as long as the execution has if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

impl StepDefinition {
    /// Name of the step in its workflow.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.uses)
    }

    /// Whether both give the same on the same documents: how often and how long
    /// they are tried does not count.
    pub fn does_as(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.uses == other.uses
            && self.input == other.input
            && self.when == other.when
            && self.on_error == other.on_error
            && self.with == other.with
    }
}

fn no_parameters() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What is wrong with a workflow: places (`steps[2].with.schema`) and cures.
pub type Faults = Vec<(String, String)>;

/// A step that is ready to run.
pub struct PlannedStep {
    /// Name of the step in its workflow.
    pub id: String,
    /// Kind of the step.
    pub uses: String,
    /// JSON pointer to what it works on.
    pub input: Option<String>,
    /// Whether it runs; it does if absent.
    pub when: Option<Condition>,
    /// What its failure means.
    pub on_error: OnError,
    /// When it is tried again; as the deployment says if absent.
    pub retry: Option<Retry>,
    /// Time for one try; as long as the execution has if absent.
    pub timeout: Option<Duration>,
    /// The step.
    pub step: Box<dyn Step>,
}

/// The steps of a workflow, ready to run. Shared by all its executions.
pub struct Plan {
    /// In the order in which they run.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// Checks every step and builds it. It compiles patterns and schemas: not
    /// for an arbiter.
    ///
    /// # Errors
    /// All faults found, in the order of the steps.
    pub fn compile(definitions: &[StepDefinition]) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        if definitions.is_empty() || definitions.len() > MAX_STEPS {
            faults.push(("steps".into(), format!("a workflow has 1 to {MAX_STEPS} steps")));
            return Err(faults);
        }
        let mut ids = HashSet::new();
        let mut planned = Vec::with_capacity(definitions.len());
        for (index, definition) in definitions.iter().enumerate() {
            let place = format!("steps[{index}]");
            let id = definition.id().to_owned();
            if !is_step_id(&id) {
                let cure = "letters, digits and _, at most 64, not beginning with a digit";
                faults.push((format!("{place}.id"), cure.into()));
            } else if !ids.insert(id.clone()) {
                let cure = format!("another step is named `{id}`; give each its own id");
                faults.push((format!("{place}.id"), cure));
            }
            if definition
                .input
                .as_ref()
                .is_some_and(|text| !text.is_empty() && !text.starts_with('/'))
            {
                let cure = "a JSON pointer such as /steps/fields or /input_data";
                faults.push((format!("{place}.input"), cure.into()));
            }
            faults.extend(out_of_range(&place, definition));
            let when = flow::condition(&place, definition).unwrap_or_else(|found| {
                faults.extend(found);
                None
            });
            match build(&place, definition) {
                Ok(step) => planned.push(PlannedStep {
                    id,
                    uses: definition.uses.clone(),
                    input: definition.input.clone(),
                    when,
                    on_error: definition.on_error,
                    retry: definition.retry.clone(),
                    timeout: definition
                        .timeout_seconds
                        .map(|limit| Duration::from_secs(limit.into())),
                    step,
                }),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self { steps: planned }) } else { Err(faults) }
    }
}

fn build(place: &str, definition: &StepDefinition) -> Result<Box<dyn Step>, (String, String)> {
    match steps::build(&definition.uses, definition.with.clone()) {
        Some(Ok(step)) => Ok(step),
        Some(Err(error)) if error.path.is_empty() => Err((format!("{place}.with"), error.detail)),
        Some(Err(error)) => Err((format!("{place}.with.{}", error.path), error.detail)),
        None => {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            Err((format!("{place}.uses"), format!("one of: {}", known.join(", "))))
        }
    }
}

fn out_of_range(place: &str, definition: &StepDefinition) -> Faults {
    let retry = definition.retry.iter().flat_map(|retry| retry.faults(&format!("{place}.retry")));
    let mut faults: Faults = retry.collect();
    if definition.timeout_seconds.is_some_and(|limit| !(1..=MAX_TIMEOUT).contains(&limit)) {
        faults.push((format!("{place}.timeout_seconds"), format!("from 1 to {MAX_TIMEOUT}")));
    }
    faults
}

fn is_step_id(id: &str) -> bool {
    id.len() <= 64
        && id.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && id.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// What a deployment runs at one revision.
pub struct Revision {
    /// The deployment.
    pub deployment_id: Uuid,
    /// Its revision.
    pub number: i32,
    /// The workflow.
    pub workflow_id: Uuid,
    /// ETL or TASK.
    pub kind: WorkflowKind,
    /// The settings of that revision.
    pub settings: Settings,
    steps: String,
    plan: OnceCell<Result<Arc<Plan>, String>>,
    input_schema: OnceCell<Option<Result<Schema, String>>>,
}

impl Revision {
    /// Takes a revision from the store. Its plan is made when it is first
    /// needed, so that ten thousand deployments start at once.
    ///
    /// # Errors
    /// If the settings cannot be read: a fault of ours.
    pub fn from_row(row: deployment_revision::Model) -> Result<Self, serde_json::Error> {
        Ok(Self {
            deployment_id: row.deployment_id,
            number: row.revision,
            workflow_id: row.workflow_id,
            kind: row.kind,
            settings: serde_json::from_str(&row.settings)?,
            steps: row.steps,
            plan: OnceCell::new(),
            input_schema: OnceCell::new(),
        })
    }

    /// The steps as they are written. They may be large: not for an
    /// asynchronous thread.
    ///
    /// # Errors
    /// If they cannot be read: a fault of ours.
    pub fn definitions(&self) -> serde_json::Result<Vec<StepDefinition>> {
        serde_json::from_str(&self.steps)
    }

    /// Whom to tell of the ends of its executions.
    pub fn notice(&self, organisation_id: Uuid) -> Option<Notice> {
        let webhook = self.settings.webhook.as_ref()?;
        Some(Notice {
            organisation_id,
            deployment_id: self.deployment_id,
            connection: webhook.connection.clone(),
            statuses: webhook.statuses.iter().map(|end| end.status()).collect(),
        })
    }

    /// Whether a step takes the text of documents, so that callers are to send
    /// some.
    pub fn reads_documents(&self) -> bool {
        self.definitions().unwrap_or_default().iter().any(|step| step.uses == ExtractTextStep::NAME)
    }

    /// The plan, compiled off the asynchronous threads at the first call.
    ///
    /// # Errors
    /// What is wrong, if the steps were valid once and are no longer.
    pub async fn plan(&self) -> Result<Arc<Plan>, String> {
        let compile = || async {
            let steps = self.steps.clone();
            let compiled = tokio::task::spawn_blocking(move || {
                let definitions: Vec<StepDefinition> =
                    serde_json::from_str(&steps).map_err(|error| error.to_string())?;
                Plan::compile(&definitions).map(Arc::new).map_err(|faults| {
                    let texts = faults.iter().map(|(place, cure)| format!("{place}: {cure}"));
                    texts.collect::<Vec<_>>().join("; ")
                })
            });
            compiled.await.unwrap_or_else(|_| Err("a step kind failed while it was built".into()))
        };
        self.plan.get_or_init(compile).await.clone()
    }

    /// What `input_data` must be, if the settings say, compiled off the
    /// asynchronous threads at the first call.
    ///
    /// # Errors
    /// What is wrong, if the schema was valid once and is no longer.
    pub async fn input_schema(&self) -> Option<Result<Schema, String>> {
        self.settings.input_schema.as_ref()?;
        let compile = || async {
            let settings = self.settings.clone();
            let compiled = tokio::task::spawn_blocking(move || {
                settings.compile_input_schema().map(|schema| schema.map_err(|fault| fault.detail))
            });
            compiled.await.unwrap_or_else(|_| Some(Err("it failed while it was compiled".into())))
        };
        self.input_schema.get_or_init(compile).await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(steps: Value) -> Faults {
        let definitions: Vec<StepDefinition> = serde_json::from_value(steps).unwrap();
        Plan::compile(&definitions).err().unwrap_or_default()
    }

    #[test]
    fn an_unknown_step_kind_is_named_with_those_there_are() {
        let found = faults(json!([{"uses": "no_such_step"}]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "steps[0].uses");
    }

    #[test]
    fn an_empty_workflow_and_one_of_101_steps_are_refused() {
        assert_eq!(faults(json!([]))[0].0, "steps");
        let many = vec![json!({"uses": "x"}); 101];
        assert_eq!(faults(Value::Array(many))[0].0, "steps");
    }

    #[test]
    fn two_steps_of_one_name_and_a_bad_name_and_a_bad_pointer_are_refused() {
        let found = faults(json!([
            {"uses": "a", "id": "same"}, {"uses": "a", "id": "same"},
            {"uses": "a", "id": "1x"}, {"uses": "a", "id": "ok", "input": "steps"},
        ]));
        let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
        for place in ["steps[1].id", "steps[2].id", "steps[3].input"] {
            assert!(places.contains(&place), "{place} in {places:?}");
        }
    }

    #[test]
    fn the_pattern_of_an_id_says_what_is_checked() {
        let pattern = regex::Regex::new(STEP_ID).unwrap();
        let longest = "a".repeat(64);
        for (id, expected) in [
            ("load", true),
            ("_2", true),
            (longest.as_str(), true),
            (&format!("{longest}a"), false),
            ("", false),
            ("2a", false),
            ("a-b", false),
            ("é", false),
        ] {
            assert_eq!((is_step_id(id), pattern.is_match(id)), (expected, expected), "{id}");
        }
    }

    #[test]
    fn tries_and_times_out_of_range_are_refused_by_place() {
        let jq = |limits: Value| {
            let mut step = json!({"uses": "jq", "with": {"filter": "."}});
            step.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
            step
        };
        let found = faults(json!([
            jq(json!({"id": "a", "timeout_seconds": 86_400, "retry": {"attempts": 20}})),
            jq(json!({"id": "b", "timeout_seconds": 0, "retry": {"attempts": 21}})),
            jq(json!({"id": "c", "timeout_seconds": 86_401})),
        ]));
        let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(
            places,
            ["steps[1].retry.attempts", "steps[1].timeout_seconds", "steps[2].timeout_seconds"]
        );
    }
}
