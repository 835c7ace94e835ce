//! What the calls of one deployment have in common: schemas, refusals,
//! headers.

use schemars::r#gen::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::document::Subject;
use super::example;
use crate::api::executions::answers::{ResultAnswer, StatusAnswer, Submitted};
use crate::api::intake::{self, MAX_TIMEOUT};
use crate::error::{Code, RefusalBody};

/// Name of the security scheme.
pub const SCHEME: &str = "deployment_key";

/// Name of the deployment's own schema of `input_data`.
const INPUT: &str = "InputData";

/// Where schemas lie in the document.
const SCHEMAS: &str = "#/components/schemas/";

/// Words of JSON Schema whose values are data, whatever they look like.
const DATA: [&str; 5] = ["const", "enum", "default", "examples", "example"];

/// `components`.
pub fn build(subject: &Subject) -> Value {
    json!({
        "securitySchemes": {SCHEME: {"type": "http", "scheme": "bearer",
            "description": "A key of this deployment, `unst_…`"}},
        "parameters": {"execution_id": {"name": "execution_id", "in": "path", "required": true,
            "description": "The execution, as the answer to the submission names it",
            "schema": {"type": "string", "format": "uuid"}}},
        "headers": headers(),
        "responses": refusals(),
        "schemas": schemas(subject),
    })
}

/// A reference to a schema.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("{SCHEMAS}{name}")})
}

/// A reference to the refusals of a status.
pub fn refusal(status: u16) -> Value {
    json!({"$ref": format!("#/components/responses/{status}")})
}

/// One answer for each status of the table of refusals.
fn refusals() -> Map<String, Value> {
    let mut refusals = Map::new();
    for code in Code::ALL {
        let status = code.status().as_str().to_owned();
        let line = format!("- `{}`: {}\n", code.name(), code.detail());
        let refusal = refusals.entry(status).or_insert_with(|| {
            json!({"description": "", "headers": {},
                "content": {"application/json": {"schema": reference("Refusal")}}})
        });
        if let Some(Value::String(text)) = refusal.get_mut("description") {
            text.push_str(&line);
        }
        if [429, 503].contains(&code.status().as_u16())
            && let Some(Value::Object(headers)) = refusal.get_mut("headers")
        {
            let retry = json!({"$ref": "#/components/headers/Retry-After"});
            headers.insert("Retry-After".into(), retry);
        }
    }
    refusals
}

fn headers() -> Value {
    let seconds = json!({"type": "integer", "minimum": 0});
    let header =
        |description: &str, schema: &Value| json!({"description": description, "schema": schema});
    let replayed = "`true` where the submission had been accepted before under its key";
    json!({
        "Idempotent-Replayed": header(replayed, &json!({"type": "boolean"})),
        "Location": header("Where the status is", &json!({"type": "string"})),
        "Retry-After": header("When to ask again, in seconds", &seconds),
        "RateLimit-Limit": header("Requests that may come at once", &seconds),
        "RateLimit-Remaining": header("Requests that may come now", &seconds),
        "RateLimit-Reset": header("When all of them are back, in seconds", &seconds),
    })
}

fn generator(nulls: bool) -> SchemaGenerator {
    SchemaSettings::draft2019_09()
        .with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.option_add_null_type = nulls;
        })
        .into_generator()
}

fn schemas(subject: &Subject) -> Map<String, Value> {
    let mut json = generator(true);
    // A form has no null.
    let mut form = generator(false);
    intake::described(&mut json, &mut form);
    json.subschema_for::<Submitted>();
    json.subschema_for::<StatusAnswer>();
    json.subschema_for::<ResultAnswer>();
    json.subschema_for::<RefusalBody>();
    let mut schemas: Map<String, Value> = json
        .take_definitions()
        .into_iter()
        .chain(form.take_definitions())
        .filter_map(|(name, schema)| Some((name, serde_json::to_value(schema).ok()?)))
        .collect();
    for form in ["JsonSubmission", "FormSubmission"] {
        if let Some(schema) = schemas.get_mut(form) {
            narrow(schema, subject);
        }
    }
    if let Some(form) = schemas.get_mut("FormSubmission") {
        fill(form);
    }
    if let Some(schema) = &subject.settings.input_schema {
        schemas.insert(INPUT.into(), moved(&Value::Object(schema.clone())));
        describe_input(&mut schemas, example::of(&Value::Object(schema.clone())));
    }
    schemas
}

/// Writes the deployment's limits into the schema of a submission.
fn narrow(schema: &mut Value, subject: &Subject) {
    let most = subject.settings.max_files;
    for place in ["/properties/files", "/properties/documents"] {
        if let Some(Value::Object(files)) = schema.pointer_mut(place) {
            files.insert("maxItems".into(), most.into());
        }
    }
    if let Some(Value::Object(timeout)) = schema.pointer_mut("/properties/timeout") {
        timeout.insert("minimum".into(), (-1).into());
        timeout.insert("maximum".into(), MAX_TIMEOUT.into());
    }
}

/// Says what a field counts as that is left empty. Viewers would else fill in
/// values of their own. What may only be empty is no use to show.
fn fill(form: &mut Value) {
    let Some(fields) = form.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let stays_empty = |field: &Value| field.get("maxLength").and_then(Value::as_u64) == Some(0);
    fields.retain(|_, field| !stays_empty(field) && !field.get("items").is_some_and(stays_empty));
    for field in fields.values_mut() {
        let empty = match field.get("type").and_then(Value::as_str) {
            Some("string") => json!(""),
            Some("boolean") => json!(false),
            Some("integer") => json!(0),
            _ => continue,
        };
        if let Some(field) = field.as_object_mut() {
            field.insert("default".into(), empty);
        }
    }
}

/// Points both forms of a submission to the deployment's own schema.
fn describe_input(schemas: &mut Map<String, Value>, example: Option<Value>) {
    let mut input = |form: &str, word: &str, value: Value| {
        let input =
            schemas.get_mut(form)?.pointer_mut("/properties/input_data")?.as_object_mut()?;
        input.insert(word.to_owned(), value)
    };
    input("JsonSubmission", "$ref", json!(format!("{SCHEMAS}{INPUT}")));
    input("FormSubmission", "contentMediaType", json!("application/json"));
    input("FormSubmission", "contentSchema", reference(INPUT));
    if let Some(example) = example {
        input("FormSubmission", "examples", json!([example.to_string()]));
    }
}

/// A schema whose references to its own parts lead to where it stands now. One
/// that has an id is the root of its references wherever it stands.
fn moved(schema: &Value) -> Value {
    match schema {
        Value::Object(words) if words.contains_key("$id") => schema.clone(),
        Value::Object(words) => {
            let word = |(word, value): (&String, &Value)| {
                let value = match value {
                    Value::String(target) if word == "$ref" || word == "$dynamicRef" => {
                        match target.strip_prefix('#') {
                            Some(place) if place.is_empty() || place.starts_with('/') => {
                                format!("{SCHEMAS}{INPUT}{place}").into()
                            }
                            _ => value.clone(),
                        }
                    }
                    value if DATA.contains(&word.as_str()) => value.clone(),
                    value => moved(value),
                };
                (word.clone(), value)
            };
            Value::Object(words.iter().map(word).collect())
        }
        Value::Array(items) => items.iter().map(moved).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_a_schema_lead_to_where_it_stands_and_data_stays_as_it_is() {
        let schema = json!({
            "$defs": {"a": {"$ref": "#"}}, "properties": {"x": {"$ref": "#/$defs/a"},
                "y": {"const": {"$ref": "#/x"}}, "z": {"$ref": "#anchor"}},
            "allOf": [{"$id": "urn:x", "$ref": "#/y"}],
        });
        let expected = json!({
            "$defs": {"a": {"$ref": "#/components/schemas/InputData"}},
            "properties": {"x": {"$ref": "#/components/schemas/InputData/$defs/a"},
                "y": {"const": {"$ref": "#/x"}}, "z": {"$ref": "#anchor"}},
            "allOf": [{"$id": "urn:x", "$ref": "#/y"}],
        });
        assert_eq!(moved(&schema), expected);
    }
}
