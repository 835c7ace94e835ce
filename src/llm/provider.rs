//! The providers of language models that are known, and how each is spoken
//! to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose protocol a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Chat completions, as OpenAI has them and most others after it.
    OpenAi,
    /// Messages, as Anthropic has them.
    Anthropic,
    /// `generateContent`, as Google has it.
    Gemini,
    /// `/api/chat`, as Ollama has it.
    Ollama,
}

/// How an answer in JSON is asked for beside the words of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JsonMode {
    /// The provider is given the schema and keeps the model to it.
    Schema,
    /// The provider keeps the model to JSON, of whatever form.
    Object,
    /// By the words of the prompt alone.
    Prompt,
}

/// Where the key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// A header of its own.
    Named(&'static str),
}

/// A provider of language models.
#[derive(Debug)]
pub struct Provider {
    /// The name that connections give.
    pub name: &'static str,
    /// Whose protocol it speaks.
    pub protocol: Protocol,
    /// Where it is; none if that differs from customer to customer.
    pub base_url: Option<&'static str>,
    /// What its models are kept to unless the connection says otherwise.
    pub json_mode: JsonMode,
    /// Where the key goes.
    pub key_header: KeyHeader,
}

const fn alike(name: &'static str, base_url: &'static str, json_mode: JsonMode) -> Provider {
    let base_url = Some(base_url);
    Provider {
        name,
        protocol: Protocol::OpenAi,
        base_url,
        json_mode,
        key_header: KeyHeader::Bearer,
    }
}

/// All that are known. Any other that speaks OpenAI's protocol is `openai`
/// with its own `base_url`.
pub const PROVIDERS: &[Provider] = &[
    alike("openai", "https://api.openai.com/v1", JsonMode::Schema),
    Provider {
        name: "azure",
        protocol: Protocol::OpenAi,
        base_url: None,
        json_mode: JsonMode::Schema,
        key_header: KeyHeader::Named("api-key"),
    },
    Provider {
        name: "anthropic",
        protocol: Protocol::Anthropic,
        base_url: Some("https://api.anthropic.com/v1"),
        json_mode: JsonMode::Prompt,
        key_header: KeyHeader::Named("x-api-key"),
    },
    Provider {
        name: "gemini",
        protocol: Protocol::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        json_mode: JsonMode::Schema,
        key_header: KeyHeader::Named("x-goog-api-key"),
    },
    Provider {
        name: "ollama",
        protocol: Protocol::Ollama,
        base_url: Some("http://localhost:11434"),
        json_mode: JsonMode::Schema,
        key_header: KeyHeader::Bearer,
    },
    alike("deepseek", "https://api.deepseek.com/v1", JsonMode::Object),
    alike("fireworks", "https://api.fireworks.ai/inference/v1", JsonMode::Schema),
    alike("groq", "https://api.groq.com/openai/v1", JsonMode::Object),
    alike("mistral", "https://api.mistral.ai/v1", JsonMode::Schema),
    alike("openrouter", "https://openrouter.ai/api/v1", JsonMode::Schema),
    alike("together", "https://api.together.xyz/v1", JsonMode::Schema),
    alike("xai", "https://api.x.ai/v1", JsonMode::Schema),
];

/// The provider of that name.
pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// The names of all, for the cure of a fault.
pub fn names() -> String {
    PROVIDERS.iter().map(|provider| provider.name).collect::<Vec<_>>().join(", ")
}
