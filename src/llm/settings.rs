//! Where a language model is, and what it takes.

use secrecy::SecretString;

use super::provider::JsonMode;

/// Most tokens that a setting can speak of.
pub const MAX_TOKENS: u32 = 10_000_000;

/// Highest price, in dollars for a million tokens.
pub const MAX_PRICE: f64 = 1_000_000.0;

/// Tokens of an answer where nobody says how many.
const USUAL_OUTPUT_TOKENS: u32 = 4096;

/// A language model, as a connection has it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who serves it, by name.
    pub provider: String,
    /// Where it is, if not where the provider is by itself.
    pub base_url: Option<String>,
    /// The model.
    pub model: String,
    /// The key, if it needs one.
    pub api_key: Option<SecretString>,
    /// Dollars for a million tokens of prompts.
    pub input_price: Option<f64>,
    /// Dollars for a million tokens of answers.
    pub output_price: Option<f64>,
    /// Tokens of an answer, unless a step says otherwise.
    pub max_output_tokens: Option<u32>,
    /// Tokens of prompt and answer together.
    pub context_tokens: Option<u32>,
    /// How an answer in JSON is asked for, if not as is usual for the
    /// provider.
    pub json_mode: Option<JsonMode>,
}

impl Settings {
    /// Most tokens of an answer, of which a step may say how many.
    pub fn output_tokens(&self, asked: Option<u32>) -> u32 {
        asked.or(self.max_output_tokens).unwrap_or(USUAL_OUTPUT_TOKENS)
    }

    /// What tokens cost, in thousand-millionths of a dollar; nothing where no
    /// price is known.
    pub fn cost_nanodollars(&self, prompt: u64, completion: u64) -> i64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of tokens are small")]
        let of = |tokens: u64, price: Option<f64>| tokens as f64 * price.unwrap_or_default();
        let millionths = of(prompt, self.input_price) + of(completion, self.output_price);
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let nanodollars = (millionths * 1000.0).round() as i64;
        nanodollars
    }
}
