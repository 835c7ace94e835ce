//! How text is prepared before patterns see it.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::params::Normalize;

/// Composes accents and line breaks, and does what `options` ask for.
pub fn normalize(text: &str, options: Normalize) -> String {
    let text = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.to_owned(),
        _ => text.nfc().collect(),
    };
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{c}', '\u{2028}', '\u{2029}'], "\n");
    if !options.blanks && !options.markdown {
        return text;
    }
    let mut prepared = String::with_capacity(text.len());
    for line in text.split('\n') {
        if options.markdown && is_table_rule(line) {
            continue;
        }
        let line = if options.markdown { without_marks(line) } else { line.to_owned() };
        if options.blanks {
            push_words(&mut prepared, &line);
        } else {
            prepared.push_str(&line);
        }
        prepared.push('\n');
    }
    prepared.pop();
    prepared
}

/// Appends the words of `line` with one space between them.
fn push_words(prepared: &mut String, line: &str) {
    let visible =
        |c: &char| !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let mut blank = false;
    let mut begun = false;
    for c in line.chars().filter(visible) {
        if c.is_whitespace() {
            blank = true;
            continue;
        }
        if blank && begun {
            prepared.push(' ');
        }
        prepared.push(c);
        (blank, begun) = (false, true);
    }
}

/// The line under a table's head: bars, dashes and colons.
fn is_table_rule(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('|')
        && line.contains('-')
        && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

/// Drops heading signs, emphasis and table bars; an escaped mark stays.
fn without_marks(line: &str) -> String {
    let bare = line.trim_start_matches('#');
    let is_heading = bare.len() < line.len() && bare.starts_with(' ');
    let mut chars = if is_heading { bare.chars() } else { line.chars() }.peekable();
    let mut plain = String::with_capacity(line.len());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next_if(char::is_ascii_punctuation) {
                Some(escaped) => plain.push(escaped),
                None => plain.push(c),
            },
            '*' => {}
            '|' => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_of_every_kind_become_one_space_and_none_at_line_ends() {
        let text = "\tTotal\u{a0}\u{202f} EUR\t34,73 \r\nco\u{ad}op\r\u{200b}end\u{c}";
        let prepared = normalize(text, Normalize::default());
        assert_eq!(prepared, "Total EUR 34,73\ncoop\nend\n");
    }

    #[test]
    fn accents_are_composed_even_where_blanks_are_kept() {
        let options = Normalize { blanks: false, markdown: false };
        assert_eq!(normalize("e\u{301}te\u{301}\t1", options), "été\t1");
    }

    #[test]
    fn the_marks_of_markdown_go_and_escaped_ones_stay() {
        let text = "## Total **due**\n\n| a\\_b | 5 \\* 2 |\n| --- | :-: |\n| c | d |\n#1 C:\\x";
        let options = Normalize { blanks: true, markdown: true };
        assert_eq!(normalize(text, options), "Total due\n\na_b 5 * 2\nc d\n#1 C:\\x");
    }
}
