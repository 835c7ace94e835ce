//! Language models: what is asked, how it is sent, and what is answered.
//!
//! The protocols are few and small, and they are spoken here rather than by a
//! client library: an answer is bounded while it is read, and nothing of it,
//! of a prompt or of a key comes into a log or an error. Keys and addresses
//! are those of the [`Settings`] alone; the environment is not looked at.

mod anthropic;
mod call;
mod gemini;
mod ollama;
mod openai;
pub mod provider;
pub mod settings;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use call::{Failure, base_url, call};
pub use settings::Settings;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that most protocols have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What somebody said.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// What may be decided for each call.
#[derive(Debug, Clone)]
pub struct Options {
    /// From 0 (always the likeliest words) up; the provider's own if absent.
    pub temperature: Option<f64>,
    /// Tokens of the answer; the connection's if absent.
    pub max_output_tokens: Option<u32>,
    /// Time for one call.
    pub timeout: Duration,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What holds for the whole conversation.
    pub system: Option<String>,
    /// The conversation; the last word is the user's.
    pub messages: Vec<Message>,
    /// JSON Schema of the answer, if that is JSON.
    pub schema: Option<Arc<Value>>,
    /// What may be decided for each call.
    pub options: Options,
}

impl Ask {
    /// All that is said, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let said = self.messages.iter().map(|message| message.text.as_str());
        self.system.as_deref().into_iter().chain(said)
    }

    /// Characters of all that is said.
    pub fn chars(&self) -> u64 {
        self.texts().map(|text| text.chars().count() as u64).sum()
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the model wanted it to.
    Whole,
    /// Where there was no more room.
    Cut,
    /// Where the provider or the model refused to go on.
    Withheld,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The model's words.
    pub text: String,
    /// How they ended.
    pub end: End,
    /// Tokens of the prompt, if the provider tells them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the provider tells them.
    pub completion_tokens: Option<u64>,
}
