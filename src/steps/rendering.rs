//! Minijinja as the steps use it: strict, without escaping, and bounded in
//! work, memory and output.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use super::{ParamError, StepError};

/// Bytes of a template's source.
const MAX_SOURCE_BYTES: usize = 64 * 1024;

/// Bytes of a condition.
const MAX_CONDITION_BYTES: usize = 4 * 1024;

/// Work of one rendering: an instruction is one unit, so are 64 bytes of data.
const FUEL: u64 = 1_000_000;

const NAME: &str = "template";

/// A template that is compiled and ready to render any number of times.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
}

impl Renderer {
    /// Compiles `source`, which stands at `param` below `with`.
    ///
    /// # Errors
    /// Names the line of a syntax error.
    pub fn compile(param: &str, source: String) -> Result<Self, ParamError> {
        if source.len() > MAX_SOURCE_BYTES {
            let detail = format!("the template is longer than {MAX_SOURCE_BYTES} bytes");
            return Err(ParamError::at(param, detail));
        }
        let mut environment = environment(UndefinedBehavior::Strict);
        environment.add_template_owned(NAME, source).map_err(|error| {
            let line = error.line().unwrap_or(1);
            let detail = error.detail().unwrap_or("it cannot be compiled");
            ParamError::at(param, format!("{} on line {line}: {detail}", error.kind()))
        })?;
        Ok(Self { environment })
    }

    /// Renders to at most `max_bytes` bytes.
    ///
    /// # Errors
    /// `template_failed`, with the line but without values.
    pub fn render(&self, variables: TemplateValue, max_bytes: usize) -> Result<String, StepError> {
        let mut output = Bounded { bytes: Vec::new(), max_bytes, overrun: false };
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(variables, &mut output).map(drop));
        if output.overrun {
            let detail = format!("the rendered text is longer than {max_bytes} bytes");
            return Err(StepError::permanent("template_failed", detail));
        }
        rendered.map_err(|error| failure(&error))?;
        String::from_utf8(output.bytes)
            .map_err(|_| StepError::permanent("template_failed", "the rendered text is not UTF-8"))
    }
}

/// Nothing is escaped, and work is bounded.
fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(FUEL));
    environment
}

/// An expression that holds or does not. What is not there is false, as deep
/// as it is looked for.
#[derive(Debug, Clone)]
pub struct Condition(Arc<(Environment<'static>, String)>);

impl Condition {
    /// Checks `source`.
    ///
    /// # Errors
    /// What is wrong with it, in words for its author.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_CONDITION_BYTES {
            return Err(format!("the condition is longer than {MAX_CONDITION_BYTES} bytes"));
        }
        let environment = environment(UndefinedBehavior::Chainable);
        if let Err(error) = environment.compile_expression(source) {
            let detail = error.detail().unwrap_or("it cannot be compiled");
            return Err(format!("an expression such as `input.total > 100`; {detail}"));
        }
        Ok(Self(Arc::new((environment, source.to_owned()))))
    }

    /// Whether it holds of what a template sees; there may be no input.
    ///
    /// # Errors
    /// `condition_failed`, without values.
    pub fn holds(&self, input: Option<&Value>, data: &Value) -> Result<bool, StepError> {
        let (environment, source) = &*self.0;
        let variables = input.map_or_else(|| named(data).collect(), |input| variables(input, data));
        // Compiled at each use: what is compiled would borrow from both.
        let expression = environment.compile_expression(source);
        let found = expression.and_then(|expression| expression.eval(variables));
        found.map(|value| value.is_true()).map_err(|error| {
            let detail = match error.kind() {
                ErrorKind::OutOfFuel => "the condition needs more work than it may do".to_owned(),
                kind => format!("the condition cannot be told on this input: {kind}"),
            };
            StepError::permanent("condition_failed", detail)
        })
    }
}

/// What a template sees: `input`, and every key of the step's `data`.
pub fn variables(input: &Value, data: &Value) -> TemplateValue {
    variables_with(input, data, None)
}

/// The same, and what a step has besides, which goes before the data.
pub fn variables_with(
    input: &Value,
    data: &Value,
    more: impl IntoIterator<Item = (String, TemplateValue)>,
) -> TemplateValue {
    let input = ("input".to_owned(), TemplateValue::from(Serde(input)));
    let mut variables: BTreeMap<String, TemplateValue> = named(data).chain([input]).collect();
    variables.extend(more);
    variables.into()
}

fn named(data: &Value) -> impl Iterator<Item = (String, TemplateValue)> {
    let data = data.as_object().into_iter().flatten();
    data.map(|(name, value)| (name.clone(), TemplateValue::from(Serde(value))))
}

/// Minijinja's own detail can quote values, so only its kind and line go out.
fn failure(error: &Error) -> StepError {
    let line = error.line().unwrap_or(1);
    let detail = match error.kind() {
        ErrorKind::UndefinedError => format!(
            "line {line} uses something that is not there; test it with `is defined` or give a \
             default with `| default(…)`"
        ),
        ErrorKind::OutOfFuel => format!("line {line} needs more work than a template may do"),
        kind => format!("{kind} on line {line}"),
    };
    StepError::permanent("template_failed", detail)
}

/// A buffer that refuses to grow beyond its limit.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    overrun: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.max_bytes {
            self.overrun = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
