//! The reference of the step kinds, `docs/steps.md`: made from the kinds.

mod parameters;

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Kind;

/// What the page begins with.
const INTRODUCTION: &str = include_str!("introduction.md");

/// What the reference says of a kind beside its name, summary and parameters.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// Markdown below the summary: what it works on, and how. Its own headings
    /// are of level 3.
    pub about: &'static str,
    /// What it gives.
    pub output: &'static str,
    /// Its own codes of failure, and when each comes.
    pub errors: &'static [(&'static str, &'static str)],
    /// An [`Example`], in JSON.
    pub example: &'static str,
}

/// One run of a step of the kind. A test makes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The parameters.
    pub with: Value,
    /// What the step works on: the submission's `input_data`.
    #[serde(default)]
    pub input: Value,
    /// The document in work, if it takes one.
    #[serde(default)]
    pub document: Option<ExampleDocument>,
    /// Connections by name, as the configuration declares them. In their texts
    /// `{folder}` is a folder and `{llm}` and `{http}` are servers of the test.
    #[serde(default)]
    pub connections: Map<String, Value>,
    /// What the step gives.
    pub output: Value,
}

/// A document of an [`Example`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleDocument {
    /// Its name.
    pub name: String,
    /// Its content, if that is text.
    #[serde(default)]
    pub text: Option<String>,
    /// Its content as a file of the project, from its top.
    #[serde(default)]
    pub file: Option<String>,
}

/// The page, in Markdown.
///
/// # Errors
/// If an example is not of its form.
pub fn page(kinds: &[Kind]) -> serde_json::Result<String> {
    let mut page = INTRODUCTION.to_owned();
    for kind in kinds {
        page.push('\n');
        page.push_str(&section(kind)?);
    }
    Ok(page)
}

fn section(kind: &Kind) -> serde_json::Result<String> {
    let reference = kind.reference;
    let mut text = format!("## {}\n\n{}\n", kind.name, kind.summary);
    let mut add = |part: &str| {
        if !part.trim().is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}\n", part.trim());
        }
    };
    // Its own sections stand behind what every kind has.
    let (about, sections) = match reference.about.split_once("\n### ") {
        Some((about, sections)) => (about, format!("### {sections}")),
        None => (reference.about, String::new()),
    };
    add(about);
    let schema = serde_json::to_value((kind.schema)())?;
    add(&parameters::tables(kind.name, &schema));
    add(&format!("Output: {}", reference.output));
    add(&errors(reference.errors));
    add(&example(kind)?);
    add(&sections);
    Ok(text)
}

fn errors(errors: &[(&str, &str)]) -> String {
    let mut table = String::from("| code | when |\n|---|---|\n");
    for (code, when) in errors {
        let _ = writeln!(table, "| `{code}` | {} |", when.replace('|', "\\|"));
    }
    if errors.is_empty() { String::new() } else { table }
}

fn example(kind: &Kind) -> serde_json::Result<String> {
    let example: Example = serde_json::from_str(kind.reference.example)?;
    let mut text = String::from("Example.");
    let mut add = |name: &str, value: &Value| {
        let shown = serde_json::to_string_pretty(value).unwrap_or_default();
        let _ = write!(text, "\n\n{name}\n\n```json\n{shown}\n```");
    };
    let step = serde_json::json!({"uses": kind.name, "with": example.with});
    add("The step:", &step);
    if !example.input.is_null() {
        add("What it works on:", &example.input);
    }
    if let Some(document) = &example.document {
        let content = document.text.as_ref().or(document.file.as_ref());
        add(&format!("The document `{}`:", document.name), &content.cloned().into());
    }
    add("Its output:", &example.output);
    Ok(text)
}
