//! `template`: renders text or JSON.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rendering::{self, Renderer};
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};

/// Bytes of rendered text.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Parameters of `template`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A minijinja template. It sees `input` (what the step works on),
    /// `input_data`, `parameters`, `custom_data`, `document`, `steps` and
    /// `execution_id`. Nothing is escaped: in JSON use `| tojson`.
    template: String,
    /// What the rendered text becomes.
    #[serde(default)]
    output: Output,
}

/// What the rendered text becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Output {
    /// A string.
    #[default]
    Text,
    /// The value that the text is in JSON.
    Json,
}

/// The step kind `template`.
pub struct Template {
    renderer: Arc<Renderer>,
    output: Output,
}

impl StepKind for Template {
    const NAME: &'static str = "template";
    const SUMMARY: &'static str = "Renders a minijinja template to text or JSON.";
    const REFERENCE: Reference = Reference {
        about: "In the language of [minijinja](https://docs.rs/minijinja/latest/minijinja/syntax/). What is not there is an error; test it with `is defined` or give a `default`.

Limits: a template of 64 KiB, a text of 16 MiB, a bounded amount of work.",
        output: "A string, or what it says in JSON.",
        errors: &[
            ("template_failed", "the template fails on this input, or what it gives is too large or no JSON"),
        ],
        example: r#"{"with": {"template": "{{ input.name }} owes {{ input.total }} EUR"},
 "input": {"name": "Acme", "total": 12.5},
 "output": "Acme owes 12.5 EUR"}"#,
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let renderer = Arc::new(Renderer::compile("template", params.template)?);
        Ok(Self { renderer, output: params.output })
    }
}

#[async_trait]
impl Step for Template {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let (renderer, output) = (Arc::clone(&self.renderer), self.output);
        let (input, data) = (Arc::clone(&context.input), Arc::clone(&context.data));
        offload(move || {
            let text = renderer.render(rendering::variables(&input, &data), MAX_OUTPUT_BYTES)?;
            match output {
                Output::Text => Ok(Value::String(text)),
                Output::Json => parse(&text),
            }
        })
        .await
    }
}

fn parse(text: &str) -> Result<Value, StepError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!(
            "the rendered text is not JSON at its line {line}, column {column}; write values \
             with `| tojson`"
        );
        StepError::permanent("template_failed", detail)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::testing;

    async fn render(with: Value, input: Value, data: Value) -> Result<Value, StepError> {
        let step = testing::build("template", with).unwrap();
        step.run(&testing::context(input, data)).await
    }

    #[tokio::test]
    async fn a_template_sees_the_input_and_the_context_and_gives_a_string() {
        let with = json!({"template": "{{ input.name }}/{{ parameters.year }}/{{ steps.a.b }}"});
        let data = json!({"parameters": {"year": 2026}, "steps": {"a": {"b": "<&>"}}});
        let text = render(with, json!({"name": "Ada"}), data).await.unwrap();
        assert_eq!(text, json!("Ada/2026/<&>"));
    }

    #[tokio::test]
    async fn keys_keep_their_order_and_tojson_makes_valid_json() {
        let template = r#"{"keys": [{% for key in input %}{{ key | tojson }}{% if not loop.last %},{% endif %}{% endfor %}], "text": {{ input.z | tojson }}}"#;
        let input = json!({"z": "say \"hi\"\n</script>", "a": 1});
        let with = json!({"template": template, "output": "json"});
        let value = render(with, input.clone(), json!({})).await.unwrap();
        assert_eq!(value, json!({"keys": ["z", "a"], "text": input["z"]}));
    }

    #[tokio::test]
    async fn what_is_not_there_is_an_error_that_names_the_line_and_no_value() {
        let with = json!({"template": "one\n{{ input.secret.missing.x }}"});
        let error = render(with, json!({"secret": "s3cr3t"}), json!({})).await.unwrap_err();
        assert_eq!(error.code, "template_failed");
        assert!(error.detail.contains("line 2"), "{error}");
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }

    #[tokio::test]
    async fn a_failing_filter_does_not_quote_the_value() {
        let with = json!({"template": "{{ input | int }}"});
        let error = render(with, json!("s3cr3t"), json!({})).await.unwrap_err();
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }

    #[tokio::test]
    async fn a_runaway_loop_runs_out_of_fuel() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        let error = render(json!({"template": nested}), json!(null), json!({})).await.unwrap_err();
        assert!(error.detail.contains("more work"), "{error}");
    }

    #[tokio::test]
    async fn a_template_cannot_blow_up_memory() {
        for template in [
            "{{ 'a' * 9000000000 }}",
            "{% set a = 'aaaaaaaaaaaaaaaa' * 1000000 %}{% set b = a * 1000 %}{{ b }}",
            "{{ 'a' | indent(9000000000) }}",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{{ '%9000000000s' | format('a') }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ input * 30000000 }}",
        ] {
            let Ok(step) = testing::build("template", json!({"template": template})) else {
                continue;
            };
            let context = testing::context(json!("abcd"), json!({}));
            assert!(step.run(&context).await.is_err(), "{template}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_parameter_and_line() {
        let error = testing::build("template", json!({"template": "a\n{{ b"})).err().unwrap();
        assert_eq!(error.path, "template");
        assert!(error.detail.contains("line 2"), "{error}");
    }

    #[tokio::test]
    async fn text_that_is_not_json_is_refused_without_quoting_it() {
        let with = json!({"template": "{{ input }}", "output": "json"});
        let error = render(with, json!("s3cr3t"), json!({})).await.unwrap_err();
        assert!(error.detail.contains("tojson"), "{error}");
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }
}
