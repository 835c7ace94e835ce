//! `llm`: asks a language model.

mod params;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use minijinja::value::Value as TemplateValue;
use serde_json::Value;

use super::asking::{Asker, Form};
use super::rendering::{self, Renderer};
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, asking, offload};
use crate::connections::Kind;
use crate::llm::{Ask, Message, Options, Role};
use crate::schema::Schema;

pub use params::Params;

/// Bytes of a prompt.
const MAX_PROMPT_BYTES: usize = 16 * 1024 * 1024;

/// The step kind `llm`.
pub struct Llm {
    connection: String,
    prompt: Arc<Renderer>,
    system: Option<Arc<Renderer>>,
    form: Option<Form>,
    text: Option<String>,
    options: Options,
    max_repairs: u32,
}

impl StepKind for Llm {
    const NAME: &'static str = "llm";
    const SUMMARY: &'static str = "Asks a language model.";
    const CONNECTION: Option<Kind> = Some(Kind::Llm);
    const REFERENCE: Reference = Reference {
        about: include_str!("about.md"),
        output: "Text; with `schema` what the schema says.",
        errors: &errors(),
        example: include_str!("example.json"),
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        params.check()?;
        let system = params.system.map(|system| Renderer::compile("system", system)).transpose()?;
        Ok(Self {
            connection: params.connection,
            prompt: Arc::new(Renderer::compile("prompt", params.prompt)?),
            system: system.map(Arc::new),
            form: params.schema.map(|schema| form("schema", schema)).transpose()?,
            text: params.text,
            options: Options {
                temperature: params.temperature,
                max_output_tokens: params.max_output_tokens,
                timeout: Duration::from_secs(params.timeout_seconds.into()),
            },
            max_repairs: params.max_repairs,
        })
    }
}

const fn errors() -> [(&'static str, &'static str); 10] {
    let [a, b, c, d, e, f, g, h, i] = asking::ERRORS;
    [("template_failed", "the prompt cannot be made from this input"), a, b, c, d, e, f, g, h, i]
}

/// Compiles a schema that stands at `param` below `with`.
fn form(param: &str, source: Value) -> Result<Form, ParamError> {
    let schema = Schema::compile(source.clone()).map_err(|fault| {
        ParamError::at(format!("{param}{}", fault.pointer.replace('/', ".")), fault.detail)
    })?;
    Ok(Form { source: Arc::new(source), schema })
}

#[async_trait]
impl Step for Llm {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let asker = Asker::open(context, &self.connection)?;
        let text = text(context, self.text.as_deref())?;
        let ask = self.written(context, text).await?;
        asker.answer(ask, self.form.as_ref(), self.max_repairs).await
    }
}

impl Llm {
    /// The prompt for one text.
    async fn written(
        &self,
        context: &StepContext,
        text: Option<Arc<str>>,
    ) -> Result<Ask, StepError> {
        let (prompt, system) = (Arc::clone(&self.prompt), self.system.clone());
        let (input, data) = (Arc::clone(&context.input), Arc::clone(&context.data));
        let render = move || {
            let text = text.map(|text| ("text".to_owned(), TemplateValue::from(text)));
            let variables = rendering::variables_with(&input, &data, text);
            let system = system.map(|system| system.render(variables.clone(), MAX_PROMPT_BYTES));
            Ok((prompt.render(variables, MAX_PROMPT_BYTES)?, system.transpose()?))
        };
        let (prompt, system) = offload(render).await?;
        let messages = vec![Message { role: Role::User, text: prompt }];
        Ok(Ask { system, messages, schema: None, options: self.options.clone() })
    }
}

/// The text that is spoken of: at `pointer` of the input, or where it usually
/// is.
fn text(context: &StepContext, pointer: Option<&str>) -> Result<Option<Arc<str>>, StepError> {
    let input = context.input.as_ref();
    match pointer {
        None => Ok(input.as_str().or_else(|| input.get("text")?.as_str()).map(Arc::from)),
        Some(pointer) => {
            let found = input.pointer(pointer).and_then(Value::as_str);
            let missing = || StepError::bad_input(format!("there is no text at {pointer}"));
            Ok(Some(Arc::from(found.ok_or_else(missing)?)))
        }
    }
}
