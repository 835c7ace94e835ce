//! One deployment file: TOML into a declaration, each fault with its line.

use std::collections::HashMap;
use std::ops::Range;

use millrace_entities::enums::WorkflowKind;
use sea_orm::ActiveEnum;
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::files::Source;
use super::outcome::Fault;
use crate::engine::manage::WorkflowDraft;
use crate::engine::plan::{Plan, StepDefinition};
use crate::engine::settings::Settings;
use crate::form::{self, API_NAME, NAME, Text};

/// The fields that are no settings.
const HEAD: [&str; 7] = [
    "org_id",
    "api_name",
    "display_name",
    "description",
    "deployment_type",
    "is_active",
    "workflow",
];

/// A deployment as a file declares it, checked as far as the file alone allows.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The file's name in the folder.
    pub file: String,
    /// Slug of the organisation.
    pub org_id: String,
    /// Name in URLs, unique in the organisation.
    pub api_name: String,
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    pub description: String,
    /// Whether it takes submissions.
    pub is_active: bool,
    /// What its workflow must be.
    pub deployment_type: Option<WorkflowKind>,
    /// Limits and times, in range.
    pub settings: Settings,
    /// The workflow it serves.
    pub workflow: Served,
    places: HashMap<&'static str, (usize, usize)>,
}

/// Which workflow a declared deployment serves.
#[derive(Debug, Clone)]
pub enum Served {
    /// One of the organisation's.
    Named(String),
    /// One that the same file declares, its steps compiled.
    Own(WorkflowDraft),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    org_id: String,
    api_name: String,
    display_name: Option<Text>,
    #[serde(default)]
    description: Text,
    deployment_type: Option<Kind>,
    #[serde(default = "yes")]
    is_active: bool,
    workflow: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    name: Option<Text>,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    description: Text,
    steps: Vec<StepDefinition>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Kind(WorkflowKind);

impl TryFrom<String> for Kind {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        WorkflowKind::try_from_value(&text).map(Self).map_err(|_| "`ETL` or `TASK`")
    }
}

fn yes() -> bool {
    true
}

/// Places and cures, before they have their lines.
type Faults = Vec<(String, String)>;

impl Declaration {
    /// Reads and checks a file, its steps included. They are compiled for it:
    /// not for an asynchronous thread.
    ///
    /// # Errors
    /// Every fault that is found.
    pub fn parse(source: &Source) -> Result<Self, Vec<Fault>> {
        let at = |range: Range<usize>, reason: String| {
            let (line, column) = position(&source.text, range.start);
            Fault { file: source.name.clone(), place: Some((line, column)), reason }
        };
        let document = match DeTable::parse(&source.text) {
            Ok(document) => document.into_inner(),
            // Of the message alone: the error's text repeats the line.
            Err(error) => {
                let place = error.span().unwrap_or_default();
                return Err(vec![at(place, error.message().to_owned())]);
            }
        };
        let found = table(&document).map_err(|(place, cure)| vec![(place, cure)]);
        match found.and_then(|object| Self::of(source, &document, object)) {
            Ok(declaration) => Ok(declaration),
            Err(faults) => Err(faults
                .into_iter()
                .map(|(place, cure)| {
                    let reason = if place.is_empty() { cure } else { format!("{place}: {cure}") };
                    at(locate(&document, &place), reason)
                })
                .collect()),
        }
    }

    fn of(
        source: &Source,
        document: &DeTable<'_>,
        object: Map<String, Value>,
    ) -> Result<Self, Faults> {
        let (head, settings): (Map<_, _>, Map<_, _>) =
            object.into_iter().partition(|(name, _)| HEAD.contains(&name.as_str()));
        let mut faults = Faults::new();
        let settings = kept(form::read::<Settings>(Value::Object(settings)), "", &mut faults);
        faults.extend(settings.iter().flat_map(Settings::faults));
        let Some(head) = kept(form::read::<Head>(Value::Object(head)), "", &mut faults) else {
            return Err(faults);
        };
        if !form::is_api_name(&head.api_name) {
            faults.push(("api_name".into(), API_NAME.into()));
        }
        let served = served(head.workflow, &head.api_name, &mut faults);
        let (Some(settings), Some(workflow), true) = (settings, served, faults.is_empty()) else {
            return Err(faults);
        };
        let place = |name| (name, position(&source.text, locate(document, name).start));
        let places = [
            "org_id",
            "api_name",
            "deployment_type",
            "webhook.connection",
            "source",
            "source.connection",
            "workflow",
            "workflow.name",
            "workflow.type",
        ];
        Ok(Self {
            file: source.name.clone(),
            org_id: head.org_id,
            display_name: head.display_name.map_or_else(|| head.api_name.clone(), Into::into),
            api_name: head.api_name,
            description: head.description.into(),
            is_active: head.is_active,
            deployment_type: head.deployment_type.map(|kind| kind.0),
            settings,
            workflow,
            places: places.map(place).into(),
        })
    }

    /// A fault of this file at one of its fields.
    pub fn fault(&self, field: &'static str, reason: &str) -> Fault {
        Fault {
            file: self.file.clone(),
            place: self.places.get(field).copied(),
            reason: format!("{field}: {reason}"),
        }
    }
}

/// What was read, or its fault under `prefix`.
fn kept<T>(read: Result<T, form::Misplaced>, prefix: &str, faults: &mut Faults) -> Option<T> {
    read.map_err(|fault| {
        let place = match (prefix, fault.place) {
            (prefix, None) => prefix.to_owned(),
            ("", Some(place)) => place,
            (prefix, Some(place)) => format!("{prefix}.{place}"),
        };
        faults.push((place, fault.cure));
    })
    .ok()
}

fn served(value: Value, api_name: &str, faults: &mut Faults) -> Option<Served> {
    let value = match value {
        Value::String(name) => return Some(Served::Named(name)),
        Value::Object(_) => value,
        _ => {
            let cure = "the name of a workflow, or a table that declares one";
            faults.push(("workflow".into(), cure.into()));
            return None;
        }
    };
    let own = kept(form::read::<Own>(value), "workflow", faults)?;
    let name = own.name.map_or_else(|| api_name.to_owned(), String::from);
    if !form::is_name(&name) {
        faults.push(("workflow.name".into(), NAME.into()));
    }
    if let Err(found) = Plan::compile(&own.steps) {
        faults.extend(found.into_iter().map(|(place, cure)| (format!("workflow.{place}"), cure)));
    }
    let description = own.description.into();
    Some(Served::Own(WorkflowDraft { name, kind: own.kind.0, description, steps: own.steps }))
}

fn table(table: &DeTable<'_>) -> Result<Map<String, Value>, (String, String)> {
    table
        .iter()
        .map(|(name, value)| {
            let name = name.get_ref().to_string();
            let value =
                json(value.get_ref()).map_err(|(place, cure)| (below(&name, &place), cure))?;
            Ok((name, value))
        })
        .collect()
}

fn below(name: &str, place: &str) -> String {
    match place {
        "" => name.to_owned(),
        place if place.starts_with('[') => format!("{name}{place}"),
        place => format!("{name}.{place}"),
    }
}

/// TOML as JSON; times become text.
fn json(value: &DeValue<'_>) -> Result<Value, (String, String)> {
    let at_value = |cure: &str| (String::new(), cure.to_owned());
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| at_value("an integer of 64 bits"))?
            .into(),
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| at_value("a finite number"))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let index = format!("[{index}]");
                json(item.get_ref()).map_err(|(place, cure)| (below(&index, &place), cure))
            });
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => Value::Object(table(inner)?),
    })
}

/// Where a place such as `workflow.steps[2].with` stands in the text, or the
/// nearest thing around it that is there.
fn locate(document: &DeTable<'_>, place: &str) -> Range<usize> {
    let mut parts = place.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    let first = parts.next().unwrap_or_default();
    let Some((key, value)) = document.get_key_value(first) else { return 0..0 };
    let (mut span, mut value) = (key.span(), value);
    for part in parts {
        let inner = match value.get_ref() {
            DeValue::Table(table) => {
                table.get_key_value(part).map(|(key, value)| (key.span(), value))
            }
            DeValue::Array(items) => {
                let item = part.parse().ok().and_then(|index: usize| items.get(index));
                item.map(|item| (item.span(), item))
            }
            _ => None,
        };
        let Some(found) = inner else { break };
        (span, value) = found;
    }
    span
}

/// Line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let source = Source { name: "x.toml".into(), text: text.into() };
        let faults = Declaration::parse(&source).err().unwrap_or_default();
        faults.iter().map(|fault| format!("{fault} {}", fault.reason)).collect()
    }

    const HEAD: &str = "org_id = \"acme\"\napi_name = \"a\"\n";

    #[test]
    fn each_fault_has_its_line_and_column_and_never_the_value() {
        let steps = "[workflow]\ntype = \"TASK\"\n[[workflow.steps]]\nuses = \"jq\"\nwith = { filter = \".\" }\n";
        for (text, wanted) in [
            (format!("{HEAD}max_files = 0\n{steps}"), "x.toml:3:1 max_files: from 1 to 1000"),
            (
                format!("{HEAD}rate_limit.burst = 0\n{steps}"),
                "x.toml:3:12 rate_limit.burst: from 1 to 1000000",
            ),
            (
                format!("{HEAD}max_files = \"secret\"\n{steps}"),
                "x.toml:3:1 max_files: expected u32",
            ),
            (format!("{HEAD}seize = 1\n{steps}"), "x.toml:3:1 seize: unknown field; expected "),
            (format!("{HEAD}is_active = 1\n{steps}"), "x.toml:3:1 is_active: expected a boolean"),
            (
                format!("{HEAD}max_files = 0x1_0000_0000_0000_0000\n{steps}"),
                "x.toml:3:1 max_files: an integer of 64 bits",
            ),
            (
                format!("org_id = \"acme\"\napi_name = \"a b\"\n{steps}"),
                "x.toml:2:1 api_name: letters",
            ),
            (format!("api_name = \"a\"\n{steps}"), "x.toml:1:1 org_id: missing field `org_id`"),
            (HEAD.into(), "x.toml:1:1 workflow: missing field `workflow`"),
            (format!("{HEAD}workflow = 1"), "x.toml:3:1 workflow: the name of a workflow"),
            (
                format!("{HEAD}[workflow]\nsteps = []"),
                "x.toml:3:2 workflow.type: missing field `type`",
            ),
            (
                format!("{HEAD}{}", steps.replace("TASK", "secret")),
                "x.toml:4:1 workflow.type: `ETL` or `TASK`",
            ),
            (
                format!("{HEAD}{steps}[[workflow.steps]]\nuses = \"secret\""),
                "x.toml:9:1 workflow.steps[1].uses: one of: ",
            ),
            (
                format!("{HEAD}{}", steps.replace("\".\"", "\"secret |\"")),
                "x.toml:7:10 workflow.steps[0].with.filter: ",
            ),
            (format!("{HEAD}api_name = \"b\"\n"), "x.toml:3:1 duplicate key"),
            (format!("{HEAD}é = [\n"), "x.toml:3:6 unclosed array"),
        ] {
            let told = faults(&text);
            assert!(
                told.first().is_some_and(|told| told.starts_with(wanted)),
                "{wanted} in {told:?}"
            );
            assert!(!told.concat().contains("secret"), "{told:?}");
        }
    }

    #[test]
    fn several_faults_of_one_file_are_all_told() {
        let told = faults(
            "api_name = \"a b\"\norg_id = \"acme\"\nmax_files = 0\nmax_queued = 1_000_000\nworkflow = 1",
        );
        assert_eq!(told.len(), 4, "{told:?}");
    }

    #[test]
    fn values_keep_their_order_and_times_become_text() {
        let document =
            DeTable::parse("z = 1\na = [2026-01-02, 0x10, 1_000.5]\n[m]\nb = true").unwrap();
        let object = Value::Object(table(document.get_ref()).unwrap());
        assert_eq!(object.to_string(), r#"{"z":1,"a":["2026-01-02",16,1000.5],"m":{"b":true}}"#);
    }
}
