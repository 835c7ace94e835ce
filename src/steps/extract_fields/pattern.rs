//! Patterns: regular expressions, limited and compiled once.

use regex::{Captures, Regex, RegexBuilder};

use crate::steps::ParamError;

/// Memory that one compiled pattern may take, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Patterns in one step.
const MAX_PATTERNS: usize = 1000;

/// Compiles the patterns of one step and counts them.
#[derive(Debug, Default)]
pub struct Compiler {
    compiled: usize,
}

impl Compiler {
    /// Compiles the pattern that stands at `path` below `with`.
    ///
    /// # Errors
    /// If it is empty, malformed or too large, or one too many.
    pub fn pattern(&mut self, pattern: &str, path: &str) -> Result<Regex, ParamError> {
        self.compiled += 1;
        if self.compiled > MAX_PATTERNS {
            let detail = format!("a step may have {MAX_PATTERNS} patterns; use several workflows");
            return Err(ParamError::at(path, detail));
        }
        if pattern.is_empty() {
            return Err(ParamError::at(path, "the pattern is empty"));
        }
        RegexBuilder::new(pattern)
            .multi_line(true)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| ParamError::at(path, explain(&error)))
    }

    /// Compiles a list of patterns that stands at `path`.
    ///
    /// # Errors
    /// As [`Self::pattern`], at the place in the list.
    pub fn patterns(&mut self, patterns: &[String], path: &str) -> Result<Vec<Regex>, ParamError> {
        let numbered = patterns.iter().enumerate();
        numbered.map(|(i, pattern)| self.pattern(pattern, &format!("{path}[{i}]"))).collect()
    }

    /// Compiles a pattern that may be absent.
    ///
    /// # Errors
    /// As [`Self::pattern`].
    pub fn optional(
        &mut self,
        pattern: Option<&str>,
        path: &str,
    ) -> Result<Option<Regex>, ParamError> {
        pattern.map(|pattern| self.pattern(pattern, path)).transpose()
    }
}

/// The last line of a syntax error says what is wrong; those before it draw
/// the place in several lines.
fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            "the pattern is too large when compiled; make its repetitions smaller".to_owned()
        }
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", reason.trim_start_matches("error: "))
        }
    }
}

/// What a match gives: the group `value`, else the first group that took
/// part, else, without groups, all of it. Nothing but blanks is nothing.
pub fn given<'t>(captures: &Captures<'t>) -> Option<&'t str> {
    let groups = || captures.iter().skip(1).flatten();
    let whole = || if captures.len() == 1 { captures.get(0) } else { None };
    let found = captures.name("value").or_else(|| groups().next()).or_else(whole)?;
    Some(found.as_str().trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pattern: &str, text: &str) -> Option<String> {
        let regex = Compiler::default().pattern(pattern, "x").unwrap();
        let captures = regex.captures(text)?;
        given(&captures).map(str::to_owned)
    }

    #[test]
    fn a_match_gives_its_value_group_or_its_first_group_or_itself() {
        assert_eq!(first(r"No (\d+)/(?<value>\d+)", "No 1/2").as_deref(), Some("2"));
        assert_eq!(first(r"No (\d+)/(\d+)", "No 1/2").as_deref(), Some("1"));
        assert_eq!(first(r"No (\d+)|Nr (\d+)", "Nr 7").as_deref(), Some("7"));
        assert_eq!(first(r"\d+", "No 12").as_deref(), Some("12"));
        assert_eq!(first(r"No( *)", "No 12"), None);
        assert_eq!(first(r"^b$", "a\nb\nc").as_deref(), Some("b"));
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_refused_in_one_line() {
        let error = |pattern: &str| Compiler::default().pattern(pattern, "fields.a.pattern");
        assert_eq!(
            error("(").unwrap_err().to_string(),
            "with.fields.a.pattern: not a regular expression: unclosed group"
        );
        assert!(error(r"a(?=b)").unwrap_err().detail.contains("look-around"));
        assert!(error(r"(a)\1").unwrap_err().detail.contains("backreferences"));
        assert!(error(r"\w{1000}{1000}").unwrap_err().detail.contains("too large"));
        assert_eq!(error("").unwrap_err().detail, "the pattern is empty");
    }
}
