//! `split`: cuts a text into chunks.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::chunks::Chunking;
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};

/// Bytes of a text.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// The step kind `split`.
pub struct Split {
    chunking: Chunking,
}

impl StepKind for Split {
    const NAME: &'static str = "split";
    const SUMMARY: &'static str = "Cuts a text into chunks that end where a section, a \
                                   paragraph or a sentence does.";
    const REFERENCE: Reference = Reference {
        about: "It works on a string, or on an object with a string `text`, such as what `extract_text` gives. A chunk takes as many whole sections, paragraphs or sentences as there is room for; only a word that is longer than a chunk is cut.

Limits: a text of 64 MiB, 100,000 chunks.",
        output: r#"`[{"index", "text", "start", "end"}]`: `text` has no white space around it, `start` and `end` are where it stands in the whole, in characters. A text of white space alone has no chunks."#,
        errors: &[
            ("text_too_large", "the text has more than 64 MiB"),
            ("too_many_chunks", "it would have more than 100,000 chunks"),
        ],
        example: r##"{"with": {"size": 30},
 "input": {"text": "# Delivery\n\nWithin two weeks.\n\n# Payment\n\nOn receipt."},
 "output": [{"index": 0, "text": "# Delivery\n\nWithin two weeks.", "start": 0, "end": 29},
            {"index": 1, "text": "# Payment\n\nOn receipt.", "start": 31, "end": 53}]}"##,
    };
    type Params = Chunking;

    fn build(chunking: Chunking) -> Result<Self, ParamError> {
        chunking.check()?;
        Ok(Self { chunking })
    }
}

#[async_trait]
impl Step for Split {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let (chunking, cancel) = (self.chunking, context.cancel.clone());
        let input = Arc::clone(&context.input);
        offload(move || {
            let text = text_of(&input)?;
            if text.len() > MAX_TEXT_BYTES {
                let detail = format!("the text has more than {MAX_TEXT_BYTES} bytes");
                return Err(StepError::permanent("text_too_large", detail));
            }
            let chunks = chunking.split(text, &cancel)?;
            serde_json::to_value(chunks).map_err(|_| StepError::crashed())
        })
        .await
    }
}

fn text_of(input: &Value) -> Result<&str, StepError> {
    input.as_str().or_else(|| input.get("text")?.as_str()).ok_or_else(|| {
        StepError::bad_input(
            "split works on a string, or on an object with a string `text`; select one with \
             the step's `input`",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::testing;

    async fn split(with: Value, input: Value) -> Result<Value, StepError> {
        testing::build("split", with).unwrap().run(&testing::context(input, json!({}))).await
    }

    /// The characters `start..end` of a text.
    fn slice(text: &str, chunk: &Value) -> String {
        let at = |name: &str| usize::try_from(chunk[name].as_u64().unwrap()).unwrap();
        text.chars().skip(at("start")).take(at("end") - at("start")).collect()
    }

    #[tokio::test]
    async fn chunks_end_at_sections_and_say_where_they_stand_in_characters() {
        let text = "# Über uns\n\nWir bauen Bänke. 木の椅子です。\n\n# Preise\n\nAuf Anfrage.\n";
        let chunks = split(json!({"size": 40}), json!({"text": text})).await.unwrap();
        let texts: Vec<_> = chunks.as_array().unwrap().iter().map(|one| &one["text"]).collect();
        assert_eq!(
            texts,
            ["# Über uns\n\nWir bauen Bänke. 木の椅子です。", "# Preise\n\nAuf Anfrage."]
        );
        for chunk in chunks.as_array().unwrap() {
            assert_eq!(chunk["text"], slice(text, chunk));
        }
    }

    #[tokio::test]
    async fn no_chunk_is_larger_than_asked_for_and_none_of_the_text_is_lost() {
        let words: Vec<_> = (0..2000).map(|n| format!("wörd{n}")).collect();
        let text = words.join(" ") + &"x".repeat(500);
        for (unit, size, overlap, limit) in
            [("characters", 100, 30, 100), ("tokens", 25, 0, 100), ("tokens", 10, 5, 40)]
        {
            for format in ["markdown", "plain"] {
                let with =
                    json!({"unit": unit, "size": size, "overlap": overlap, "format": format});
                let chunks = split(with, json!(text)).await.unwrap();
                let mut reached = 0;
                for (index, chunk) in chunks.as_array().unwrap().iter().enumerate() {
                    assert_eq!(chunk["index"], index);
                    assert_eq!(chunk["text"], slice(&text, chunk));
                    assert!(chunk["text"].as_str().unwrap().chars().count() <= limit);
                    let start = chunk["start"].as_u64().unwrap();
                    // At most the space between two words is left out.
                    assert!(start <= reached + 1, "{start} {reached}");
                    assert!(overlap > 0 || start >= reached);
                    reached = chunk["end"].as_u64().unwrap();
                }
                assert_eq!(usize::try_from(reached), Ok(text.chars().count()));
            }
        }
    }

    #[tokio::test]
    async fn an_overlap_repeats_the_end_of_the_chunk_before() {
        let text = "one two three four five six seven eight nine ten";
        let with = json!({"size": 20, "overlap": 8, "format": "plain"});
        let chunks = split(with, json!(text)).await.unwrap();
        let (first, second) = (&chunks[0], &chunks[1]);
        assert!(second["start"].as_u64() < first["end"].as_u64(), "{chunks}");
    }

    #[tokio::test]
    async fn a_text_without_words_has_no_chunks_and_what_is_no_text_is_refused() {
        for text in ["", " \n\t"] {
            assert_eq!(split(json!({}), json!(text)).await.unwrap(), json!([]));
        }
        for input in [json!(null), json!({"text": 7}), json!(["a"])] {
            assert_eq!(split(json!({}), input).await.unwrap_err().code, "bad_step_input");
        }
    }

    #[test]
    fn sizes_out_of_bounds_are_refused_by_name() {
        let refused = |with: Value| testing::build("split", with).err().unwrap().path;
        assert_eq!(refused(json!({"size": 0})), "size");
        assert_eq!(refused(json!({"size": 4_000_001})), "size");
        assert_eq!(refused(json!({"size": 1_000_001, "unit": "tokens"})), "size");
        assert_eq!(refused(json!({"size": 10, "overlap": 6})), "overlap");
        assert_eq!(refused(json!({"format": "html"})), "format");
    }

    #[tokio::test]
    async fn a_cancelled_execution_is_not_cut_further() {
        let step = testing::build("split", json!({})).unwrap();
        let context = testing::context(json!("a text"), json!({}));
        context.cancel.cancel();
        assert_eq!(step.run(&context).await, Err(StepError::cancelled()));
    }
}
