//! `validate`: checks the input against a JSON Schema.

use std::sync::Arc;

use async_trait::async_trait;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ParamError, Step, StepContext, StepError, StepKind, offload};

/// The one dialect that is understood.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Violations listed in an error's detail.
const MAX_IN_DETAIL: usize = 10;

/// Violations listed in a report.
const MAX_IN_REPORT: usize = 100;

/// Parameters of `validate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A JSON Schema of draft 2020-12. Formats are asserted; references must
    /// stay within the schema; patterns know no look-around.
    schema: Value,
    /// What happens to an input that is not valid.
    #[serde(default)]
    on_invalid: OnInvalid,
}

/// What happens to an input that is not valid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnInvalid {
    /// The step fails; a valid input is passed on as it is.
    #[default]
    Fail,
    /// The step passes on `{"valid", "errors", "value"}`.
    Report,
}

/// The step kind `validate`.
pub struct Validate {
    validator: Arc<Validator>,
    on_invalid: OnInvalid,
}

impl StepKind for Validate {
    const NAME: &'static str = "validate";
    const SUMMARY: &'static str = "Checks the input against a JSON Schema.";
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let dialect = params.schema.get("$schema").and_then(Value::as_str).unwrap_or(DIALECT);
        if dialect.trim_end_matches('#') != DIALECT {
            return Err(ParamError::at("schema.$schema", format!("only {DIALECT} is understood")));
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex())
            .build(&params.schema)
            .map_err(|error| {
                let pointer = error.instance_path().as_str();
                ParamError::at(format!("schema{}", pointer.replace('/', ".")), error.to_string())
            })?;
        Ok(Self { validator: Arc::new(validator), on_invalid: params.on_invalid })
    }
}

#[async_trait]
impl Step for Validate {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let validator = Arc::clone(&self.validator);
        let input = Arc::clone(&context.input);
        let on_invalid = self.on_invalid;
        offload(move || match on_invalid {
            OnInvalid::Fail => match violations(&validator, &input, MAX_IN_DETAIL) {
                found if found.is_empty() => Ok(Value::clone(&input)),
                found => Err(StepError::permanent("validation_failed", detail(&found))),
            },
            OnInvalid::Report => {
                let errors = violations(&validator, &input, MAX_IN_REPORT);
                Ok(json!({"valid": errors.is_empty(), "errors": errors, "value": &*input}))
            }
        })
        .await
    }
}

/// One place where the input breaks the schema.
#[derive(Debug, Serialize)]
struct Violation {
    /// Where in the input, as a JSON pointer (RFC 6901).
    pointer: String,
    /// The keyword of the schema that is broken.
    keyword: String,
    /// What the schema expects; never the value that was found.
    detail: String,
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

fn detail(found: &[Violation]) -> String {
    let one = |violation: &Violation| {
        let place = if violation.pointer.is_empty() { "(root)" } else { &violation.pointer };
        format!("{place}: {} ({})", violation.detail, violation.keyword)
    };
    found.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;

    async fn run(with: Value, input: Value) -> Result<Value, StepError> {
        let step = testing::build("validate", with).unwrap();
        step.run(&testing::context(input, json!({}))).await
    }

    fn refused(schema: &Value) -> ParamError {
        testing::build("validate", json!({"schema": schema})).err().unwrap()
    }

    #[tokio::test]
    async fn a_valid_input_is_passed_on_unchanged() {
        let with = json!({"schema": {"type": "object", "required": ["total"]}});
        let input = json!({"total": 3, "other": [1]});
        assert_eq!(run(with, input.clone()).await.unwrap(), input);
    }

    #[tokio::test]
    async fn an_invalid_input_fails_with_pointers_and_expectations_but_no_values() {
        let schema = json!({
            "properties": {
                "items": {"items": {"properties": {
                    "amount": {"type": "number"},
                    "mail": {"format": "email"},
                    "day": {"format": "date"},
                    "code": {"pattern": "^[A-Z]+$"},
                    "kind": {"enum": ["credit", "debit"]},
                }, "additionalProperties": false}},
            },
            "required": ["date"],
        });
        let input = json!({"items": [
            {"amount": "s3cr3t", "mail": "s3cr3t", "day": "s3cr3t", "code": "s3cr3t",
             "kind": "s3cr3t", "s3cr3t": 1},
        ]});
        let error = run(json!({"schema": schema}), input).await.unwrap_err();
        assert_eq!(error.code, "validation_failed");
        assert!(!error.retryable);
        for expected in [
            "/items/0/amount: the value is not of type \"number\" (type)",
            "/items/0/mail: the value is not a \"email\" (format)",
            "/items/0/day: the value is not a \"date\" (format)",
            "/items/0/code: the value does not match \"^[A-Z]+$\" (pattern)",
            "\"credit\"",
            "(root): \"date\" is a required property (required)",
            "/items/0: the schema does not allow 1 of the properties (additionalProperties)",
        ] {
            assert!(error.detail.contains(expected), "{expected}: {error}");
        }
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }

    #[tokio::test]
    async fn no_keyword_quotes_a_value_or_a_foreign_name() {
        let secret = json!("s3cr3t");
        let object = json!({"s3cr3t": "s3cr3t"});
        let array = json!(["s3cr3t", "s3cr3t"]);
        for (schema, input) in [
            (json!({"const": 1}), &secret),
            (json!({"not": {}}), &secret),
            (json!({"maxLength": 1}), &secret),
            (json!({"minLength": 100}), &secret),
            (json!({"oneOf": [{}, {}]}), &secret),
            (json!({"oneOf": [{"const": 1}]}), &secret),
            (json!({"anyOf": [{"const": 1}]}), &secret),
            (json!({"contentEncoding": "base64"}), &secret),
            (json!({"propertyNames": {"maxLength": 1}}), &object),
            (json!({"unevaluatedProperties": false}), &object),
            (json!({"maxProperties": 0}), &object),
            (json!({"dependentRequired": {"s3cr3t": ["x"]}, "type": "array"}), &object),
            (json!({"uniqueItems": true}), &array),
            (json!({"contains": {"const": 1}}), &array),
            (json!({"maxItems": 1}), &array),
            (json!({"prefixItems": [true], "items": false}), &array),
            (json!({"unevaluatedItems": false}), &array),
            (json!(false), &secret),
        ] {
            if let Err(error) = run(json!({"schema": schema}), input.clone()).await {
                assert!(!error.detail.contains("s3cr3t"), "{schema}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_report_passes_the_value_on_with_what_is_wrong() {
        let with = json!({"schema": {"type": "string", "maxLength": 2}, "on_invalid": "report"});
        let good = run(with.clone(), json!("ab")).await.unwrap();
        assert_eq!(good, json!({"valid": true, "errors": [], "value": "ab"}));
        let bad = run(with, json!("abc")).await.unwrap();
        assert_eq!(
            bad,
            json!({"valid": false, "value": "abc", "errors": [
                {"pointer": "", "keyword": "maxLength",
                 "detail": "the value is longer than 2 characters"}]})
        );
    }

    #[tokio::test]
    async fn at_most_ten_violations_are_listed() {
        let with = json!({"schema": {"items": {"type": "string"}}});
        let error = run(with, json!(vec![1; 50])).await.unwrap_err();
        assert_eq!(error.detail.matches("(type)").count(), MAX_IN_DETAIL);
    }

    #[test]
    fn a_schema_that_breaks_its_meta_schema_is_refused_with_its_place() {
        let error = refused(&json!({"properties": {"total": {"type": "money"}}}));
        assert_eq!(error.path, "schema.properties.total.type");
    }

    #[test]
    fn remote_references_other_dialects_and_look_around_are_refused() {
        for schema in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
            json!({"pattern": "(?=a)b"}),
            json!({"pattern": "("}),
            json!("text"),
        ] {
            assert!(refused(&schema).path.starts_with("schema"), "{schema}");
        }
    }

    #[tokio::test]
    async fn a_schema_that_refers_to_itself_ends() {
        let with = json!({"schema": {"$ref": "#"}});
        if let Ok(step) = testing::build("validate", with) {
            drop(step.run(&testing::context(json!(1), json!({}))).await);
        }
    }
}
