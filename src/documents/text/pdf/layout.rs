//! A page as it is printed: lines from top to bottom, columns kept apart by
//! spaces. What stands beside each other stays on one line, which is what
//! patterns for invoices and forms go by.

use unpdf::parser::bidi::{contains_rtl, reorder_bidi};

use super::content::Run;

/// Baselines nearer than this, in font sizes, are one line.
const SAME_LINE: f32 = 0.4;
/// Gaps narrower than this, in font sizes, are within a word.
const WITHIN_WORD: f32 = 0.15;
/// Gaps wider than this, in font sizes, divide columns.
const COLUMN: f32 = 1.0;
/// Lines further apart than this, in font sizes, have an empty one between.
const PARAGRAPH: f32 = 2.0;
/// Widest line in characters.
const MAX_COLUMNS: f32 = 500.0;

/// The text of a page: what reads from left to right first, then what is
/// turned by a quarter, by half and by three quarters.
pub(super) fn render(runs: Vec<Run>) -> String {
    let mut turned: [Vec<Run>; 4] = Default::default();
    for run in runs {
        let (dx, dy) = (run.end.0 - run.start.0, run.end.1 - run.start.1);
        let quarter = match (dx.abs() >= dy.abs(), dx >= 0.0, dy >= 0.0) {
            (true, true, _) => 0,
            (false, _, true) => 1,
            (true, false, _) => 2,
            (false, _, false) => 3,
        };
        let turn = |(x, y): (f32, f32)| match quarter {
            1 => (y, -x),
            2 => (-x, -y),
            3 => (-y, x),
            _ => (x, y),
        };
        let run = Run { start: turn(run.start), end: turn(run.end), ..run };
        if let Some(group) = turned.get_mut(quarter) {
            group.push(run);
        }
    }
    let parts: Vec<_> = turned.into_iter().map(upright).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// Lays out runs that read from left to right.
fn upright(mut runs: Vec<Run>) -> String {
    runs.retain(|run| !run.text.trim().is_empty());
    let runs = join(runs);
    let Some(pitch) = pitch(&runs) else { return String::new() };
    let left = runs.iter().map(|run| run.start.0).fold(f32::INFINITY, f32::min);
    let mut text = String::new();
    let mut above: Option<(f32, f32)> = None;
    for mut line in lines(runs) {
        line.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
        let Some(first) = line.first() else { continue };
        let (y, size) = (first.start.1, first.size);
        if let Some((above, height)) = above {
            let far = above - y > PARAGRAPH * size.max(height);
            text.push_str(if far { "\n\n" } else { "\n" });
        }
        above = Some((y, size));
        text.push_str(&write(&line, left, pitch));
    }
    text
}

/// Joins what was painted piece by piece, one right after the other: only
/// whole phrases can be told apart by where they stand.
fn join(runs: Vec<Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    let mut before: Option<Run> = None;
    for run in runs {
        if before.as_ref().is_some_and(|before| is_again(before, &run)) {
            continue;
        }
        before = Some(run.clone());
        match joined.last_mut().filter(|phrase| follows(phrase, &run)) {
            Some(phrase) => {
                phrase.text.push_str(space(phrase.end.0, &phrase.text, &run));
                phrase.text.push_str(&run.text);
                phrase.end = run.end;
                phrase.size = phrase.size.max(run.size);
            }
            None => joined.push(run),
        }
    }
    joined
}

/// Whether `run` goes on where `phrase` ends.
fn follows(phrase: &Run, run: &Run) -> bool {
    let gap = run.start.0 - phrase.end.0;
    (phrase.end.1 - run.start.1).abs() < SAME_LINE * phrase.size.max(run.size)
        && (-WITHIN_WORD * run.size..COLUMN * run.size).contains(&gap)
}

/// Whether the same text was painted again, a little apart, to look bold.
fn is_again(before: &Run, run: &Run) -> bool {
    before.text == run.text
        && (run.start.0 - before.start.0).abs() < 0.4 * (run.end.0 - run.start.0)
        && (run.start.1 - before.start.1).abs() < SAME_LINE * run.size
}

/// What stands between text that ends at `end` and a run of the same column.
fn space(end: f32, text: &str, run: &Run) -> &'static str {
    let spaced = text.ends_with(' ') || run.text.starts_with(' ');
    if run.start.0 - end > WITHIN_WORD * run.size && !spaced { " " } else { "" }
}

/// Usual width of a character on the page, in points.
fn pitch(runs: &[Run]) -> Option<f32> {
    let width = |run: &Run| {
        let characters = u16::try_from(run.text.chars().count()).unwrap_or(u16::MAX);
        (run.end.0 - run.start.0) / f32::from(characters.max(1))
    };
    let mut widths: Vec<f32> = runs.iter().map(width).filter(|width| *width > 0.1).collect();
    widths.sort_by(f32::total_cmp);
    widths.get(widths.len() / 2).copied()
}

/// Runs by line, from the top.
fn lines(mut runs: Vec<Run>) -> Vec<Vec<Run>> {
    runs.sort_by(|a, b| b.start.1.total_cmp(&a.start.1));
    let mut lines: Vec<Vec<Run>> = Vec::new();
    // Baseline and size of the line's largest run, which stands for the line:
    // small print is raised or lowered.
    let (mut baseline, mut size) = (0.0, 0.0);
    for run in runs {
        let fits = (baseline - run.start.1).abs() < SAME_LINE * run.size.max(size);
        let line = lines.last_mut().filter(|_| fits);
        if line.is_none() || run.size >= size {
            (baseline, size) = (run.start.1, run.size);
        }
        match line {
            Some(line) => line.push(run),
            None => lines.push(vec![run]),
        }
    }
    lines
}

fn write(line: &[Run], left: f32, pitch: f32) -> String {
    let mut text = String::new();
    let mut columns = 0_usize;
    let mut before: Option<&Run> = None;
    for run in line {
        let gap = before.map_or(f32::INFINITY, |before| run.start.0 - before.end.0);
        if before.is_some_and(|before| is_again(before, run)) {
            continue;
        }
        let spaces = if gap > COLUMN * run.size {
            let least = if text.is_empty() { 0 } else { 2 };
            column(run.start.0 - left, pitch).saturating_sub(columns).max(least)
        } else {
            space(run.start.0 - gap, &text, run).len()
        };
        text.push_str(&" ".repeat(spaces));
        text.push_str(&run.text);
        columns += spaces + run.text.chars().count();
        before = Some(run);
    }
    text.truncate(text.trim_end().len());
    // Hebrew and Arabic were laid out as they stand, from left to right.
    if contains_rtl(&text) { reorder_bidi(&text) } else { text }
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
