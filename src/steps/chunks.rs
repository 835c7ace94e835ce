//! Texts in pieces that end where a section, a paragraph or a sentence does,
//! as models and indexes take them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use text_splitter::{ChunkCharIndex, ChunkConfig, MarkdownSplitter, TextSplitter};
use tokio_util::sync::CancellationToken;

use super::{ParamError, StepError};

/// Characters that a token is taken for. English has about four; what counts
/// exactly is known to each model alone.
pub const CHARACTERS_PER_TOKEN: usize = 4;

/// Characters of a chunk.
const MAX_SIZE: usize = 4_000_000;

/// Chunks of a text.
const MAX_CHUNKS: usize = 100_000;

/// Chunks' worth of text that the splitter sees at once.
const CHUNKS_PER_WINDOW: usize = 32;

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunking {
    /// What the text is, and so where it may be cut.
    #[serde(default)]
    pub format: TextFormat,
    /// What `size` and `overlap` count.
    #[serde(default)]
    pub unit: Unit,
    /// Largest chunk; at most 4,000,000 characters.
    #[serde(default = "default_size")]
    pub size: usize,
    /// How much of the end of a chunk the next one may begin with; at most
    /// half of `size`.
    #[serde(default)]
    pub overlap: usize,
}

/// What a text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// Markdown: cut at headings, else between blocks, sentences and words.
    #[default]
    Markdown,
    /// Plain text: cut at empty lines, else at ends of lines, between
    /// sentences and words.
    Plain,
}

/// What sizes count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Characters (Unicode code points).
    #[default]
    Characters,
    /// Tokens of a model, taken for four characters each.
    Tokens,
}

/// A piece of a text, without the white space around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chunk {
    /// Position among the chunks, from 0.
    pub index: usize,
    /// The piece.
    pub text: String,
    /// Where it begins in the whole text, in characters.
    pub start: usize,
    /// Where it ends, in characters: the first one behind it.
    pub end: usize,
}

const fn default_size() -> usize {
    2000
}

impl Default for Chunking {
    fn default() -> Self {
        Self {
            format: TextFormat::default(),
            unit: Unit::default(),
            size: default_size(),
            overlap: 0,
        }
    }
}

impl Chunking {
    /// Checks that the sizes can be used.
    ///
    /// # Errors
    /// Names `size` or `overlap`.
    pub fn check(&self) -> Result<(), ParamError> {
        let most = MAX_SIZE / self.characters_per_unit();
        if !(1..=most).contains(&self.size) {
            return Err(ParamError::at("size", format!("must be from 1 to {most}")));
        }
        // With more, a text could become many times as long.
        if self.overlap > self.size / 2 {
            let detail = format!("must be at most half of `size`: {}", self.size / 2);
            return Err(ParamError::at("overlap", detail));
        }
        Ok(())
    }

    /// The chunks of `text`; one of white space alone has none. It is CPU
    /// work, for [`offload`](super::offload), and ends early at `cancel`.
    ///
    /// # Errors
    /// `too_many_chunks` or `cancelled`.
    pub fn split(self, text: &str, cancel: &CancellationToken) -> Result<Vec<Chunk>, StepError> {
        self.split_at_most(MAX_CHUNKS, text, cancel)
    }

    /// The splitter looks through the whole sentence or word for each chunk
    /// that it cuts out of it, which takes hours for a long one. So it sees a
    /// window of some chunks, and the next window begins with the last chunk
    /// of this one, which the window may have cut short.
    fn split_at_most(
        self,
        most: usize,
        text: &str,
        cancel: &CancellationToken,
    ) -> Result<Vec<Chunk>, StepError> {
        let width = self.size.saturating_mul(self.characters_per_unit() * CHUNKS_PER_WINDOW);
        let mut chunks = Vec::new();
        let (mut rest, mut position) = (text, 0);
        while !rest.is_empty() {
            if cancel.is_cancelled() {
                return Err(StepError::cancelled());
            }
            let end = rest.char_indices().nth(width).map_or(rest.len(), |(end, _)| end);
            let (window, behind) = rest.split_at(end);
            let mut pieces = self.pieces(window)?;
            let last = pieces.pop_if(|last| !behind.is_empty() && last.byte_offset > 0);
            for piece in pieces {
                let start = position + piece.char_offset;
                let (index, text) = (chunks.len(), piece.chunk.to_owned());
                chunks.push(Chunk { index, start, end: start + text.chars().count(), text });
            }
            if chunks.len() > most {
                let detail = format!("the text has more than {most} chunks; raise `size`");
                return Err(StepError::permanent("too_many_chunks", detail));
            }
            let (bytes, characters) = last.map_or_else(
                || (end, window.chars().count()),
                |last| (last.byte_offset, last.char_offset),
            );
            (rest, position) = (rest.split_at(bytes).1, position + characters);
        }
        Ok(chunks)
    }

    fn pieces(self, text: &str) -> Result<Vec<ChunkCharIndex<'_>>, StepError> {
        let characters = self.characters_per_unit();
        let config = ChunkConfig::new(self.size.max(1).saturating_mul(characters));
        let Ok(config) = config.with_overlap(self.overlap.saturating_mul(characters)) else {
            return Err(StepError::bad_input("the overlap is larger than a chunk"));
        };
        Ok(match self.format {
            TextFormat::Markdown => {
                MarkdownSplitter::new(config).chunk_char_indices(text).collect()
            }
            TextFormat::Plain => TextSplitter::new(config).chunk_char_indices(text).collect(),
        })
    }

    const fn characters_per_unit(&self) -> usize {
        match self.unit {
            Unit::Characters => 1,
            Unit::Tokens => CHARACTERS_PER_TOKEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_more_chunks_than_allowed_is_refused() {
        let chunking = Chunking { size: 4, ..Chunking::default() };
        let token = CancellationToken::new();
        let text = "four ".repeat(1000);
        assert_eq!(chunking.split_at_most(1000, &text, &token).unwrap().len(), 1000);
        let error = chunking.split_at_most(999, &text, &token).unwrap_err();
        assert_eq!(error.code, "too_many_chunks");
    }

    #[test]
    fn one_endless_word_is_cut_as_a_text_of_many_is() {
        let chunking = Chunking { size: 100, ..Chunking::default() };
        let chunks = chunking.split(&"x".repeat(200_000), &CancellationToken::new()).unwrap();
        assert_eq!(chunks.len(), 2000);
        assert!(chunks.iter().all(|chunk| chunk.text.len() == 100));
    }
}
