//! JSON Schemas that others write: compiled within bounds, evaluated so that
//! neither schema nor value can hold a thread for long.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::sandbox::{Job, JobError, Sandbox, SandboxError};

/// The one dialect that is understood.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Bytes of a schema as JSON.
pub(crate) const MAX_SCHEMA_BYTES: usize = 128 * 1024;

/// Patterns in a schema; with their size this bounds the memory of a schema.
pub(crate) const MAX_PATTERNS: usize = 256;

/// Bytes that one compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// Time for a schema with references.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Code of a failure in the child.
const FAILED: &str = "validation_failed";

/// Why a schema cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// Where in the schema, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// A JSON Schema of draft 2020-12, ready to check values. Formats are
/// asserted; references must stay within the schema; patterns know no
/// look-around. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Checker);

/// Where a schema is evaluated. The time that a schema without references
/// takes is bounded by its size and the input's; references can double the
/// work at each step, so such a schema goes to a child that can be stopped.
#[derive(Clone)]
enum Checker {
    InProcess(Arc<Validator>),
    Sandboxed(Arc<Value>),
}

impl Schema {
    /// Compiles a schema. Its patterns take their time: not for an
    /// asynchronous thread.
    ///
    /// # Errors
    /// Names the place in the schema.
    pub fn compile(schema: Value) -> Result<Self, SchemaFault> {
        let at = |pointer: &str, detail: String| SchemaFault { pointer: pointer.into(), detail };
        let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or(DIALECT);
        if dialect.trim_end_matches('#') != DIALECT {
            return Err(at("/$schema", format!("only {DIALECT} is understood")));
        }
        if schema.to_string().len() > MAX_SCHEMA_BYTES {
            return Err(at("", format!("the schema is longer than {MAX_SCHEMA_BYTES} bytes")));
        }
        let mut survey = Survey::default();
        survey.visit(&schema);
        if survey.patterns > MAX_PATTERNS {
            return Err(at("", format!("the schema has more than {MAX_PATTERNS} patterns")));
        }
        let validator = validator(&schema)
            .map_err(|error| at(error.instance_path().as_str(), error.to_string()))?;
        Ok(Self(match survey.has_references {
            true => Checker::Sandboxed(Arc::new(schema)),
            false => Checker::InProcess(Arc::new(validator)),
        }))
    }

    /// The first `limit` places where `value` breaks the schema, found off the
    /// asynchronous threads.
    ///
    /// # Errors
    /// If the value could not be checked, in time or at all.
    pub async fn violations(
        &self,
        value: Arc<Value>,
        limit: usize,
        sandbox: &Sandbox,
        cancel: &CancellationToken,
    ) -> Result<Vec<Violation>, SandboxError> {
        match &self.0 {
            Checker::InProcess(validator) => {
                let validator = Arc::clone(validator);
                off_thread(move || violations(&validator, &value, limit)).await
            }
            Checker::Sandboxed(schema) => {
                let job = FindViolations { schema: Arc::clone(schema), limit };
                let payload = off_thread(move || Bytes::from(value.to_string())).await?;
                sandbox.call(job, payload, TIME_LIMIT, cancel).await
            }
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SandboxError::Crashed)
}

fn validator(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(patterns)
        .build(schema)
}

/// What a schema holds that decides how it may be used. It counts too much
/// rather than too little: a property may have a keyword's name.
#[derive(Debug, Default)]
struct Survey {
    has_references: bool,
    patterns: usize,
}

impl Survey {
    fn visit(&mut self, schema: &Value) {
        match schema {
            Value::Object(entries) => {
                for (keyword, value) in entries {
                    match keyword.as_str() {
                        "$ref" | "$dynamicRef" => self.has_references = true,
                        "pattern" => self.patterns += 1,
                        "patternProperties" => {
                            self.patterns += value.as_object().map_or(0, Map::len);
                        }
                        _ => {}
                    }
                    self.visit(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            _ => {}
        }
    }
}

/// Checks the payload, a JSON value, in the child.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindViolations {
    schema: Arc<Value>,
    limit: usize,
}

impl Job for FindViolations {
    const NAME: &'static str = "find_violations";
    type Output = Vec<Violation>;

    fn perform(self, payload: Vec<u8>) -> Result<Vec<Violation>, JobError> {
        let failed = |detail: &str| JobError::new(FAILED, detail);
        let input =
            serde_json::from_slice(&payload).map_err(|_| failed("the input is not JSON"))?;
        let validator = validator(&self.schema).map_err(|_| failed("the schema is not valid"))?;
        Ok(violations(&validator, &input, self.limit))
    }
}

/// One place where a value breaks a schema.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where in the value, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The keyword of the schema that is broken.
    pub keyword: String,
    /// What the schema expects; never the value that was found.
    pub detail: String,
}

fn violations(validator: &Validator, input: &Value, limit: usize) -> Vec<Violation> {
    let errors = validator.iter_errors(input).take(limit);
    errors
        .map(|error| Violation {
            pointer: error.instance_path().as_str().to_owned(),
            keyword: error.kind().keyword().to_owned(),
            detail: expectation(&error),
        })
        .collect()
}

/// What the schema expects. Names and values that only the input knows are
/// left out, also where the crate's masking would show them.
fn expectation(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!("the schema does not allow {} of the properties", unexpected.len())
        }
        ValidationErrorKind::PropertyNames { .. } => "a property's name is not allowed".to_owned(),
        ValidationErrorKind::FromUtf8 { .. } => "the decoded value is not UTF-8".to_owned(),
        ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. }
        | ValidationErrorKind::Custom { .. } => "the value could not be checked".to_owned(),
        _ => error.masked_with("the value").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_with_references_is_checked_by_the_job() {
        let schema = json!({"$defs": {"node": {"properties": {
            "value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}}}},
            "$ref": "#/$defs/node"});
        assert!(matches!(Schema::compile(schema.clone()), Ok(Schema(Checker::Sandboxed(_)))));
        let check = |input: Value| {
            let job = FindViolations { schema: Arc::new(schema.clone()), limit: 10 };
            job.perform(input.to_string().into_bytes()).unwrap()
        };
        assert_eq!(check(json!({"value": 1, "next": {"value": 2}})), []);
        let found = check(json!({"next": {"next": {"value": "s3cr3t"}}}));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pointer, "/next/next/value");
        assert!(!found[0].detail.contains("s3cr3t"));
    }

    #[test]
    fn references_and_patterns_are_found_wherever_they_stand() {
        let mut survey = Survey::default();
        survey
            .visit(&json!({"items": [{"pattern": "a"}, {"patternProperties": {"a": 1, "b": 1}}]}));
        assert_eq!((survey.has_references, survey.patterns), (false, 3));
        survey.visit(&json!({"allOf": [{"not": {"$dynamicRef": "#x"}}]}));
        assert!(survey.has_references);
    }
}
