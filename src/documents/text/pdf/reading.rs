//! A page as it is read: columns of prose one after the other, all else line
//! by line, with tabs between the cells of a line.

use super::content::Run;
use super::lines::{lines, space, turned, written};

/// Steps in which a page is searched for the gap between two columns.
const STEPS: usize = 200;
/// Narrowest gap between two columns, in font sizes.
const GUTTER: f32 = 0.9;
/// Narrowest column of prose, in font sizes.
const NARROWEST: f32 = 12.0;
/// How much of a column's width most of its lines fill, if it is prose.
const FILLED: f32 = 0.6;
/// Fewest lines of a column of prose.
const FEWEST: usize = 4;
/// Gaps wider than this, in font sizes, divide the cells of a line: wider than
/// the blanks of justified lines.
const CELL: f32 = 1.5;
/// Most columns beside each other are two to the power of this.
const DEPTH: usize = 3;

/// The text of a page.
pub(super) fn render(runs: Vec<Run>) -> String {
    turned(runs, |phrases| {
        let mut parts = Vec::new();
        read(phrases, DEPTH, &mut parts);
        parts.join("\n\n")
    })
}

/// Adds the text of a region to `parts`.
fn read(phrases: Vec<Run>, depth: usize, parts: &mut Vec<String>) {
    if phrases.is_empty() {
        return;
    }
    let gutter = if depth == 0 { None } else { gutter(&phrases) };
    let Some(gutter) = gutter else {
        parts.push(written(&lines(phrases), write));
        return;
    };
    let (mut left, mut right, mut across) = (Vec::new(), Vec::new(), Vec::new());
    // What spans the columns divides what stands above it from what is below.
    for line in lines(phrases) {
        if line.iter().any(|phrase| phrase.start.0 < gutter && phrase.end.0 > gutter) {
            read(std::mem::take(&mut left), depth - 1, parts);
            read(std::mem::take(&mut right), depth - 1, parts);
            across.push(line);
            continue;
        }
        if !across.is_empty() {
            parts.push(written(&std::mem::take(&mut across), write));
        }
        let (before, after): (Vec<_>, Vec<_>) =
            line.into_iter().partition(|phrase| phrase.start.0 < gutter);
        left.extend(before);
        right.extend(after);
    }
    read(left, depth - 1, parts);
    read(right, depth - 1, parts);
    if !across.is_empty() {
        parts.push(written(&across, write));
    }
}

/// Where the gap between two columns of prose is, if there are such.
fn gutter(phrases: &[Run]) -> Option<f32> {
    let left = phrases.iter().map(|run| run.start.0).fold(f32::INFINITY, f32::min);
    let right = phrases.iter().map(|run| run.end.0).fold(f32::NEG_INFINITY, f32::max);
    let size = median(phrases.iter().map(|run| run.size).collect())?;
    let step = (right - left) / f32::from(u16::try_from(STEPS).unwrap_or(u16::MAX));
    if phrases.len() < 2 * FEWEST || right - left < 2.0 * NARROWEST * size {
        return None;
    }
    let gap = widest_gap(&crossed(phrases, left, step), phrases.len() / 20 + 1)?;
    let width = |steps: usize| f32::from(u16::try_from(steps).unwrap_or(u16::MAX)) * step;
    let (start, end) = (left + width(gap.0), left + width(gap.1));
    let at = f32::midpoint(start, end);
    let before = phrases.iter().filter(|phrase| phrase.end.0 <= at);
    let after = phrases.iter().filter(|phrase| phrase.start.0 >= at);
    let columns = end - start >= GUTTER * size
        && is_prose(before.collect(), start - left, size)
        && is_prose(after.collect(), right - end, size);
    columns.then_some(at)
}

/// How many phrases cross each step of the region's width.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn crossed(phrases: &[Run], left: f32, step: f32) -> Vec<usize> {
    let mut crossed = vec![0; STEPS];
    for phrase in phrases {
        let index = |x: f32| ((x - left) / step).clamp(0.0, STEPS as f32 - 1.0) as usize;
        let steps = crossed.get_mut(index(phrase.start.0)..=index(phrase.end.0));
        steps.into_iter().flatten().for_each(|count| *count += 1);
    }
    crossed
}

/// The longest run of steps that at most `few` phrases cross, with text on
/// both sides.
fn widest_gap(crossed: &[usize], few: usize) -> Option<(usize, usize)> {
    let mut widest: Option<(usize, usize)> = None;
    let mut start = None;
    for (index, count) in crossed.iter().enumerate() {
        match (*count <= few, start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                start = None;
                let wider = widest.is_none_or(|(a, b)| index - from > b - a);
                if from > 0 && wider {
                    widest = Some((from, index));
                }
            }
            _ => {}
        }
    }
    widest
}

/// Whether phrases are a column of running text.
fn is_prose(phrases: Vec<&Run>, width: f32, size: f32) -> bool {
    let lines = lines(phrases.into_iter().cloned().collect());
    let filled = lines.iter().map(|line| line.iter().map(|run| run.end.0 - run.start.0).sum());
    let filled: Vec<f32> = filled.collect();
    width >= NARROWEST * size
        && filled.len() >= FEWEST
        && median(filled).is_some_and(|usual| usual >= FILLED * width)
}

fn median(mut numbers: Vec<f32>) -> Option<f32> {
    numbers.sort_by(f32::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

fn write(line: &[Run]) -> String {
    let mut text = String::new();
    let mut end = f32::INFINITY;
    for run in line {
        let apart = run.start.0 - end > CELL * run.size;
        text.push_str(if apart { "\t" } else { space(end, &text, run) });
        text.push_str(&run.text);
        end = run.end.0;
    }
    text
}
