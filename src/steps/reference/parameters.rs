//! Tables of parameters, from the JSON Schema of a kind's parameters.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The table of the parameters, and one for each form of object within them.
pub(super) fn tables(kind: &str, schema: &Value) -> String {
    let mut tables = Tables { kind, definitions: schema.get("definitions"), ..Tables::default() };
    let mut text = tables.table(schema).unwrap_or_else(|| "It has no parameters.\n".to_owned());
    while let Some(name) = tables.next() {
        let Some(definition) = tables.definition(&name) else { continue };
        let Some(table) = tables.table(definition) else { continue };
        let about = description(definition);
        let _ = write!(text, "\n#### {kind}: {name}\n\n{about}\n\n{table}");
    }
    text
}

#[derive(Default)]
struct Tables<'a> {
    kind: &'a str,
    definitions: Option<&'a Value>,
    /// Forms that a table has named and that have no table yet.
    named: Vec<String>,
    known: BTreeSet<String>,
}

impl<'a> Tables<'a> {
    fn next(&mut self) -> Option<String> {
        if self.named.is_empty() { None } else { Some(self.named.remove(0)) }
    }

    fn definition(&self, name: &str) -> Option<&'a Value> {
        self.definitions?.get(name)
    }

    /// None if the schema is not one of an object with known members.
    fn table(&mut self, schema: &'a Value) -> Option<String> {
        let properties = schema.get("properties")?.as_object()?;
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut table =
            String::from("| parameter | type | default | meaning |\n|---|---|---|---|\n");
        for (name, property) in properties {
            let default = match property.get("default") {
                _ if required.contains(&name.as_str()) => "required".to_owned(),
                // Its members have defaults of their own.
                None | Some(Value::Null | Value::Object(_)) => String::new(),
                Some(default) => format!("`{default}`"),
            };
            let kind = self.kind(property);
            let meaning = self.meaning(property);
            let _ = writeln!(
                table,
                "| `{name}` | {} | {} | {} |",
                cell(&kind),
                cell(&default),
                cell(&meaning)
            );
        }
        Some(table)
    }

    /// What may stand there, in words.
    fn kind(&mut self, schema: &'a Value) -> String {
        let Some(schema) = schema.as_object() else { return "any JSON".to_owned() };
        if let Some(name) = referred(schema) {
            return self.named_kind(name);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            if let Some(choices) = schema.get(key).and_then(Value::as_array) {
                let is_null = |choice: &&Value| choice.get("type") != Some(&Value::from("null"));
                let mut kinds: Vec<_> =
                    choices.iter().filter(is_null).map(|choice| self.kind(choice)).collect();
                kinds.dedup();
                return kinds.join(" or ");
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let kinds: Vec<_> = types
            .into_iter()
            .filter(|kind| *kind != "null")
            .map(|kind| self.plain_kind(kind, schema))
            .collect();
        if kinds.is_empty() { "any JSON".to_owned() } else { kinds.join(" or ") }
    }

    fn plain_kind(&mut self, kind: &str, schema: &'a Map<String, Value>) -> String {
        match kind {
            "array" => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".to_owned(),
            },
            "object" => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => format!("{} by name", self.kind(values)),
                _ => "object".to_owned(),
            },
            "boolean" => "true or false".to_owned(),
            other => other.to_owned(),
        }
    }

    /// An enumeration is a string; an object is told of in a table of its own.
    fn named_kind(&mut self, name: &str) -> String {
        let Some(definition) = self.definition(name) else { return name.to_owned() };
        if definition.get("properties").is_none() {
            return self.kind(definition);
        }
        if self.known.insert(name.to_owned()) {
            self.named.push(name.to_owned());
        }
        format!("[{name}](#{}-{})", self.kind, name.to_lowercase())
    }

    /// The description, and what each choice of an enumeration means.
    fn meaning(&self, schema: &Value) -> String {
        let mut meaning = description(schema);
        let choices = self.choices(schema);
        if !choices.is_empty() {
            let _ = write!(meaning, " {}", choices.join("; "));
        }
        meaning.trim().to_owned()
    }

    fn choices(&self, schema: &Value) -> Vec<String> {
        let Some(members) = schema.as_object() else { return Vec::new() };
        if let Some(definition) = referred(members).and_then(|name| self.definition(name)) {
            return self.choices(definition);
        }
        if let Some(values) = members.get("enum").and_then(Value::as_array) {
            let about = description(schema);
            let about = if about.is_empty() { about } else { format!(": {about}") };
            let about = about.trim_end_matches('.');
            let shown = values.iter().filter_map(Value::as_str);
            return shown.map(|value| format!("`{value}`{about}")).collect();
        }
        let nested = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| members.get(key));
        nested.filter_map(Value::as_array).flatten().flat_map(|one| self.choices(one)).collect()
    }
}

fn referred(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// On one line: lines of a doc comment are joined.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
