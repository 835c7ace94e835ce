//! `validate`, as a workflow uses it.

use super::*;
use crate::schema::{MAX_PATTERNS, MAX_SCHEMA_BYTES};
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

#[test]
fn large_schemas_many_patterns_and_large_patterns_are_refused() {
    let patterns: Vec<_> = (0..=MAX_PATTERNS).map(|i| json!({"pattern": i.to_string()})).collect();
    for schema in [
        json!({"title": "x".repeat(MAX_SCHEMA_BYTES)}),
        json!({"anyOf": patterns}),
        json!({"pattern": "(\\w{100}){1000}"}),
    ] {
        assert!(refused(&schema).path.starts_with("schema"));
    }
}
