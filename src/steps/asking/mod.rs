//! How steps ask language models: metered, checked, and asked again where an
//! answer is not of its form.

use std::sync::Arc;

use reqwest::Client;
use serde_json::Value;

use super::meter::{Call, CallKind};
use super::{StepContext, StepError};
use crate::connections::Connection;
use crate::llm::{self, Ask, End, Failure, Message, Reply, Role};
use crate::schema::{Schema, Violation};
use crate::usage::counter::Tokens;

/// Code of an answer that is not of its form, however often it is asked for.
pub const ANSWER_INVALID: &str = "llm_answer_invalid";

/// The codes that every step which asks a model may fail with.
pub const ERRORS: [(&str, &str); 9] = [
    ("connection_unknown", "there is no connection of that name and kind"),
    ("blocked_destination", "the connection leads to an address that is not allowed"),
    (
        "llm_unavailable",
        "the provider is away, busy or too slow; tried again, and not before it asks for that",
    ),
    ("llm_refused", "the provider refuses the key, or the account has nothing left to spend"),
    (
        "llm_request_refused",
        "the provider refuses the request, such as a model that it does not have",
    ),
    ("llm_input_too_long", "prompt and answer are longer than the model takes; split the text"),
    ("llm_answer_cut", "the answer is longer than `max_output_tokens`"),
    ("llm_answer_withheld", "the provider or the model does not answer this prompt"),
    (ANSWER_INVALID, "the answer is not valid under the schema, after all repairs"),
];

/// Violations that a model is told of at once.
const MAX_VIOLATIONS: usize = 20;

/// Characters that one token has at most, about: what is longer than that is
/// too long for certain.
const MOST_CHARS_A_TOKEN: u64 = 4;

/// Characters that one token is estimated at before a call.
const CHARS_A_TOKEN: u64 = 3;

/// The form that an answer must have.
#[derive(Clone)]
pub struct Form {
    /// As it was written.
    pub source: Arc<Value>,
    /// Compiled.
    pub schema: Schema,
}

/// A model that a step may ask.
pub struct Asker<'a> {
    context: &'a StepContext,
    name: &'a str,
    connection: Arc<Connection>,
    client: Client,
}

impl<'a> Asker<'a> {
    /// The model of the connection `name`.
    ///
    /// # Errors
    /// `connection_unknown`, `connection_unusable`, `blocked_destination`.
    pub fn open(context: &'a StepContext, name: &'a str) -> Result<Self, StepError> {
        let (connections, org_id) = (&context.services.connections, &context.scope.org_id);
        let unknown = || {
            let detail = format!("there is no connection `{name}` of kind llm");
            StepError::permanent("connection_unknown", detail)
        };
        let connection = connections.get(org_id, name).ok_or_else(unknown)?;
        let Connection::Llm(settings) = connection.as_ref() else { return Err(unknown()) };
        let url = llm::base_url(settings).map_err(|failure| error(name, failure))?;
        let outbound = &context.services.outbound;
        let client = match connections.is_declared(org_id, name) {
            true => outbound.open(),
            false => outbound.guarded(&url).map_err(|_| error(name, Failure::Blocked))?,
        };
        let client = client.clone();
        Ok(Self { context, name, connection, client })
    }

    fn settings(&self) -> Result<&llm::Settings, StepError> {
        match self.connection.as_ref() {
            Connection::Llm(settings) => Ok(settings),
            _ => Err(StepError::crashed()),
        }
    }

    /// Asks until the answer is of its form, at most `max_repairs` times
    /// more. An answer without a form is text.
    ///
    /// # Errors
    /// [`ERRORS`].
    pub async fn answer(
        &self,
        mut ask: Ask,
        form: Option<&Form>,
        max_repairs: u32,
    ) -> Result<Value, StepError> {
        let Some(form) = form else { return Ok(self.ask(&ask).await?.into()) };
        ask.schema = Some(Arc::clone(&form.source));
        ask.system = Some(with_form(ask.system.take(), &form.source));
        let mut repairs = 0;
        loop {
            let text = self.ask(&ask).await?;
            let faults = match parsed(&text) {
                Some(answer) => {
                    let answer = Arc::new(answer);
                    let violations = self.violations(form, &answer).await?;
                    if violations.is_empty() {
                        return Ok(Arc::unwrap_or_clone(answer));
                    }
                    told(&violations)
                }
                None => "It is not JSON.".to_owned(),
            };
            if repairs == max_repairs {
                let detail = format!(
                    "the model's answer was not valid under the schema, also after {repairs} \
                     repairs"
                );
                return Err(StepError::permanent(ANSWER_INVALID, detail));
            }
            repairs += 1;
            ask.messages.push(Message { role: Role::Assistant, text });
            ask.messages.push(Message { role: Role::User, text: repair(&faults) });
        }
    }

    async fn violations(
        &self,
        form: &Form,
        answer: &Arc<Value>,
    ) -> Result<Vec<Violation>, StepError> {
        let (sandbox, cancel) = (&self.context.services.sandbox, &self.context.cancel);
        form.schema
            .violations(Arc::clone(answer), MAX_VIOLATIONS, sandbox, cancel)
            .await
            .map_err(|error| StepError::sandbox(ANSWER_INVALID, "the schema", error))
    }

    /// One call. Its tokens are reserved before, and counted after it.
    async fn ask(&self, ask: &Ask) -> Result<String, StepError> {
        let settings = self.settings()?;
        let (chars, most) = (ask.chars(), settings.output_tokens(ask.options.max_output_tokens));
        let context_tokens = settings.context_tokens.map_or(u64::MAX, u64::from);
        if (chars / MOST_CHARS_A_TOKEN).saturating_add(most.into()) > context_tokens {
            return Err(error(self.name, Failure::TooLong));
        }
        let estimate = chars.div_ceil(CHARS_A_TOKEN);
        let reserved = self.context.meter.reserve(estimate.saturating_add(most.into())).await?;
        let reply = tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => return Err(StepError::cancelled()),
            reply = llm::call(&self.client, settings, ask) => reply,
        };
        let reply = reply.map_err(|failure| error(self.name, failure))?;
        reserved.settle(&self.call(settings, estimate, &reply)).await;
        match reply.end {
            End::Whole => Ok(reply.text),
            End::Cut => {
                let detail = format!(
                    "the model's answer did not end within {most} tokens; raise \
                     `max_output_tokens` or ask for less"
                );
                Err(StepError::permanent("llm_answer_cut", detail))
            }
            End::Withheld => Err(StepError::permanent(
                "llm_answer_withheld",
                "the provider or the model does not answer this prompt",
            )),
        }
    }

    fn call(&self, settings: &llm::Settings, estimate: u64, reply: &Reply) -> Call {
        let completion = || (reply.text.chars().count() as u64).div_ceil(CHARS_A_TOKEN);
        let prompt = reply.prompt_tokens.unwrap_or(estimate);
        let completion = reply.completion_tokens.unwrap_or_else(completion);
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        Call {
            connection: self.name.to_owned(),
            model: settings.model.clone(),
            kind: CallKind::Chat,
            tokens: Tokens {
                prompt: count(prompt),
                completion: count(completion),
                embedding: 0,
                cost_nanodollars: settings.cost_nanodollars(prompt, completion),
            },
            cached: false,
            estimated: reply.prompt_tokens.is_none() || reply.completion_tokens.is_none(),
        }
    }
}

/// The form in words: not every provider keeps its models to a schema.
fn with_form(system: Option<String>, schema: &Value) -> String {
    let form = format!(
        "Answer with JSON alone, without any other words, valid under this JSON Schema:\n{schema}"
    );
    match system {
        Some(system) => format!("{system}\n\n{form}"),
        None => form,
    }
}

fn told(violations: &[Violation]) -> String {
    let one = |violation: &Violation| {
        let place = if violation.pointer.is_empty() { "(root)" } else { &violation.pointer };
        format!("- {place}: {}\n", violation.detail)
    };
    violations.iter().map(one).collect()
}

fn repair(faults: &str) -> String {
    format!(
        "Your answer is not valid under the schema:\n{faults}\nGive the whole answer again, \
         corrected, as JSON alone."
    )
}

/// The JSON of an answer, also if the model put it into a fenced block of
/// Markdown. Behind a heading of thoughts, which some models write, comes what
/// counts.
fn parsed(text: &str) -> Option<Value> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, rest)| rest).trim();
    let inner = || {
        let (_, rest) = text.split_once("```")?;
        let (block, _) = rest.rsplit_once("```")?;
        // The first line names the language.
        block.split_once('\n').map(|(_, inner)| inner)
    };
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(inner()?).ok())
}

/// A failure in the words of steps: no address, and nothing that was said.
fn error(name: &str, failure: Failure) -> StepError {
    let permanent = |code: &'static str, what: &str| {
        StepError::permanent(code, format!("connection `{name}`: {what}"))
    };
    let transient = |what: &str| {
        StepError::transient("llm_unavailable", format!("connection `{name}`: {what}"))
    };
    match failure {
        Failure::Unusable => permanent("connection_unusable", "it cannot be used as it is written"),
        Failure::Blocked => {
            permanent("blocked_destination", "it leads to an address that is not allowed")
        }
        Failure::Unreachable => transient("the provider cannot be reached, or gives no answer"),
        Failure::TimedOut => transient("the provider did not answer in time"),
        Failure::Busy { status, retry_after } => {
            transient(&format!("the provider answers {status}")).after(retry_after)
        }
        Failure::Denied => permanent("llm_refused", "the provider refuses the key"),
        Failure::NoQuota => {
            permanent("llm_refused", "the account has nothing left to spend at the provider")
        }
        Failure::TooLong => permanent(
            "llm_input_too_long",
            "the prompt is longer than the model takes; split the text",
        ),
        Failure::Refused { status } => permanent(
            "llm_request_refused",
            &format!("the provider answers {status}; check the model's name and the parameters"),
        ),
        Failure::TooLarge => permanent(ANSWER_INVALID, "the provider's answer is too large"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_fences_and_behind_thoughts() {
        for text in [
            "{\"a\": 1}",
            " {\"a\":1}\n",
            "```json\n{\"a\": 1}\n```",
            "Here it is:\n```\n{\"a\": 1}\n```\nAnything else?",
            "<think>{\"a\": 2}</think>\n{\"a\": 1}",
        ] {
            assert_eq!(parsed(text), Some(json!({"a": 1})), "{text}");
        }
        assert_eq!(parsed("a is 1"), None);
        assert_eq!(parsed("```"), None);
    }
}
