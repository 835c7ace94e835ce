//! A page as it is printed: lines from top to bottom, columns kept apart by
//! spaces. What stands beside each other stays on one line, which is what
//! patterns for invoices and forms go by.

use super::content::Run;
use super::lines::{COLUMN, lines, space, turned, written};

/// Widest line in characters.
const MAX_COLUMNS: f32 = 500.0;

/// The text of a page.
pub(super) fn render(runs: Vec<Run>) -> String {
    turned(runs, |phrases| {
        let Some(pitch) = pitch(&phrases) else { return String::new() };
        let left = phrases.iter().map(|run| run.start.0).fold(f32::INFINITY, f32::min);
        written(&lines(phrases), |line| write(line, left, pitch))
    })
}

/// Usual width of a character on the page, in points.
fn pitch(phrases: &[Run]) -> Option<f32> {
    let width = |run: &Run| {
        let characters = u16::try_from(run.text.chars().count()).unwrap_or(u16::MAX);
        (run.end.0 - run.start.0) / f32::from(characters.max(1))
    };
    let mut widths: Vec<f32> = phrases.iter().map(width).filter(|width| *width > 0.1).collect();
    widths.sort_by(f32::total_cmp);
    widths.get(widths.len() / 2).copied()
}

fn write(line: &[Run], left: f32, pitch: f32) -> String {
    let mut text = String::new();
    let mut columns = 0_usize;
    let mut end = f32::NEG_INFINITY;
    for run in line {
        let spaces = if run.start.0 - end > COLUMN * run.size {
            let least = if text.is_empty() { 0 } else { 2 };
            column(run.start.0 - left, pitch).saturating_sub(columns).max(least)
        } else {
            space(end, &text, run).len()
        };
        text.push_str(&" ".repeat(spaces));
        text.push_str(&run.text);
        columns += spaces + run.text.chars().count();
        end = run.end.0;
    }
    text
}

/// The column of characters at a distance from the left, in points.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn column(distance: f32, pitch: f32) -> usize {
    (distance / pitch).clamp(0.0, MAX_COLUMNS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, x: f32, y: f32) -> Run {
        let end = (x + 5.0 * text.chars().count() as f32, y);
        Run { text: text.into(), start: (x, y), end, size: 10.0 }
    }

    #[test]
    fn what_stands_side_by_side_is_one_line_whatever_the_order_of_painting() {
        let runs = vec![
            run("12.50", 300.0, 700.0),
            run("Item", 50.0, 700.5),
            run("Total", 50.0, 640.0),
            run("99", 315.0, 640.0),
        ];
        let gap = |text: &str, column: usize| " ".repeat(column - text.len());
        let expected = format!("Item{}12.50\n\nTotal{}99", gap("Item", 50), gap("Total", 53));
        assert_eq!(render(runs), expected);
    }

    #[test]
    fn pieces_of_a_word_are_joined_and_words_are_not() {
        let runs = vec![run("In", 50.0, 700.0), run("voice", 60.5, 700.0), run("no", 88.0, 700.0)];
        assert_eq!(render(runs), "Invoice no");
    }

    #[test]
    fn text_painted_twice_is_written_once() {
        assert_eq!(render(vec![run("Bold", 50.0, 9.0), run("Bold", 50.4, 9.0)]), "Bold");
        assert_eq!(render(vec![run("l", 50.0, 9.0), run("l", 55.0, 9.0)]), "ll");
    }

    #[test]
    fn turned_text_comes_after_the_upright() {
        let mut turned = run("side", 0.0, 0.0);
        (turned.start, turned.end) = ((20.0, 100.0), (20.0, 120.0));
        assert_eq!(render(vec![turned, run("body", 50.0, 700.0)]), "body\n\nside");
    }
}
