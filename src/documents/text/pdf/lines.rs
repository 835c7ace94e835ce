//! Pieces of text put together to phrases and lines, whatever the order of
//! their painting.

use unpdf::parser::bidi::{contains_rtl, reorder_bidi};

use super::content::Run;

/// Baselines nearer than this, in font sizes, are one line.
const SAME_LINE: f32 = 0.4;
/// Gaps narrower than this, in font sizes, are within a word.
const WITHIN_WORD: f32 = 0.15;
/// Gaps wider than this, in font sizes, divide columns.
pub(super) const COLUMN: f32 = 1.0;
/// Lines further apart than this, in font sizes, have an empty one between.
const PARAGRAPH: f32 = 2.0;

/// Writes a page by `write`: what reads from left to right first, then what is
/// turned by a quarter, by half and by three quarters.
pub(super) fn turned(runs: Vec<Run>, write: impl Fn(Vec<Run>) -> String) -> String {
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
    let parts = turned.into_iter().map(|group| write(phrases(group)));
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// Joins what was painted piece by piece, one right after the other: only
/// whole phrases can be told apart by where they stand.
fn phrases(runs: Vec<Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    let mut before: Option<Piece> = None;
    for run in runs.into_iter().filter(|run| !run.text.trim().is_empty()) {
        let last = joined.last_mut();
        if let (Some(before), Some(last)) = (&before, &last)
            && before.is_again(last, &run)
        {
            continue;
        }
        before = Some(Piece::of(&run));
        match last.filter(|phrase| follows(phrase, &run)) {
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

/// The last piece of a phrase.
struct Piece {
    start: (f32, f32),
    length: usize,
}

impl Piece {
    fn of(run: &Run) -> Self {
        Self { start: run.start, length: run.text.len() }
    }

    /// Whether the same text was painted again, a little apart, to look bold.
    fn is_again(&self, phrase: &Run, run: &Run) -> bool {
        self.length == run.text.len()
            && phrase.text.ends_with(&run.text)
            && is_near(self.start, run)
    }
}

/// Whether `run` starts where another of the same text did.
fn is_near(start: (f32, f32), run: &Run) -> bool {
    (run.start.0 - start.0).abs() < 0.4 * (run.end.0 - run.start.0)
        && (run.start.1 - start.1).abs() < SAME_LINE * run.size
}

/// Whether `run` goes on where `phrase` ends.
fn follows(phrase: &Run, run: &Run) -> bool {
    let gap = run.start.0 - phrase.end.0;
    (phrase.end.1 - run.start.1).abs() < SAME_LINE * phrase.size.max(run.size)
        && (-WITHIN_WORD * run.size..COLUMN * run.size).contains(&gap)
}

/// What stands between text that ends at `end` and a run of the same column.
pub(super) fn space(end: f32, text: &str, run: &Run) -> &'static str {
    let spaced = text.ends_with(' ') || run.text.starts_with(' ');
    if run.start.0 - end > WITHIN_WORD * run.size && !spaced { " " } else { "" }
}

/// Phrases by line, from the top, each from the left.
pub(super) fn lines(mut phrases: Vec<Run>) -> Vec<Vec<Run>> {
    phrases.sort_by(|a, b| b.start.1.total_cmp(&a.start.1));
    let mut lines: Vec<Vec<Run>> = Vec::new();
    // Baseline and size of the line's largest phrase, which stands for the
    // line: small print is raised or lowered.
    let (mut baseline, mut size) = (0.0, 0.0);
    for phrase in phrases {
        let fits = (baseline - phrase.start.1).abs() < SAME_LINE * phrase.size.max(size);
        let line = lines.last_mut().filter(|_| fits);
        if line.is_none() || phrase.size >= size {
            (baseline, size) = (phrase.start.1, phrase.size);
        }
        match line {
            Some(line) => line.push(phrase),
            None => lines.push(vec![phrase]),
        }
    }
    for line in &mut lines {
        line.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
        line.dedup_by(|again, before| again.text == before.text && is_near(before.start, again));
    }
    lines
}

/// Writes lines from the top, an empty one where they stand far apart.
pub(super) fn written(lines: &[Vec<Run>], write: impl Fn(&[Run]) -> String) -> String {
    let mut text = String::new();
    let mut above: Option<(f32, f32)> = None;
    for line in lines {
        let Some(first) = line.first() else { continue };
        let (y, size) = (first.start.1, first.size);
        if let Some((above, height)) = above {
            let far = above - y > PARAGRAPH * size.max(height);
            text.push_str(if far { "\n\n" } else { "\n" });
        }
        above = Some((y, size));
        let line = write(line);
        let line = line.trim_end();
        // Hebrew and Arabic were laid out as they stand, from left to right.
        if contains_rtl(line) {
            text.push_str(&reorder_bidi(line));
        } else {
            text.push_str(line);
        }
    }
    text
}
