//! What must hold of every history, whatever was done to the servers. Pure:
//! `check_tests.rs` shows that each rule fails where it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::history::{CancelAnswer, Event, File, Record, Seen, Span, Told};

/// What the run allows.
pub struct Rules<'a> {
    /// Longest time for which a server may be there without a break before
    /// what was accepted has ended.
    pub limit: Duration,
    /// Whether executions and documents may fail: where what they load into
    /// was away too.
    pub may_fail: bool,
    /// Whether a server that is told to end must answer every call that it has
    /// taken on.
    pub answers_to_the_end: bool,
    /// Whether repeats of a submission must meet the first one.
    pub once_per_marker: bool,
    /// Output for a marker and the name of a file.
    pub expected: &'a dyn Fn(&str, &str) -> Value,
}

/// A row of the destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub table: String,
    pub execution: String,
    pub marker: String,
    pub file: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Every breach, in words; those of the time limit stand last, because a
    /// machine that is too slow gives many.
    pub faults: Vec<String>,
    /// How many of them are breaches of the time limit.
    pub late: usize,
    /// Executions that clients know to be accepted.
    pub accepted: usize,
    /// Executions by their last status.
    pub ended: BTreeMap<String, usize>,
    /// Calls that broke while a server ended in order.
    pub torn: usize,
    /// Longest time from an acceptance, or a server's return after it, to the
    /// end, without a break.
    pub slowest: Duration,
    /// The longest, all times together in which a server was there.
    pub slowest_in_sum: Duration,
}

/// What is known of one execution.
#[derive(Default)]
struct Known<'a> {
    marker: &'a str,
    accepted: Duration,
    /// When it was asked and answered, and the status.
    statuses: Vec<(Duration, Duration, &'a str)>,
    results: Vec<&'a [File]>,
    cancels: Vec<Option<CancelAnswer>>,
    events: Vec<&'a [Event]>,
    unknown: usize,
}

/// Holds the history and the destination's rows, of the named tables, against
/// the rules.
pub fn check(told: &Told, rows: &[Row], tables: &[&str], rules: &Rules) -> Verdict {
    let mut verdict = Verdict::default();
    let known = sort(&told.records, rules, &mut verdict.faults);
    let torn = torn_in_order(told);
    verdict.torn = torn.len();
    if rules.answers_to_the_end {
        let fault = |call| format!("a server that was told to end left a call unanswered: {call}");
        verdict.faults.extend(torn.into_iter().map(fault));
    }
    let mut late = Vec::new();
    let loaded = count(rows, rules, &mut verdict.faults);
    verdict.accepted = known.len();
    for (id, execution) in &known {
        let mut faults = Vec::new();
        let last = judge_statuses(execution, rules, &mut faults);
        if let Some(fault) = judge_end_time(execution, &told.up, rules, &mut verdict) {
            late.push(format!("{} ({id}): {fault}", execution.marker));
        }
        judge_cancels(execution, last, &mut faults);
        judge_events(execution, last, &mut faults);
        judge_results(execution, last, rules, &mut faults);
        judge_loads(execution, last, |table, file| loaded.contains(&(table, id, file)), tables)
            .into_iter()
            .for_each(|fault| faults.push(fault));
        *verdict.ended.entry(last.unwrap_or("not ended").to_owned()).or_default() += 1;
        let marker = execution.marker;
        verdict.faults.extend(faults.into_iter().map(|fault| format!("{marker} ({id}): {fault}")));
    }
    verdict.late = late.len();
    verdict.faults.extend(late);
    verdict
}

pub fn is_terminal(status: &str) -> bool {
    rank(status) == 2
}

fn rank(status: &str) -> u8 {
    match status {
        "PENDING" => 0,
        "EXECUTING" => 1,
        _ => 2,
    }
}

/// Everything that is known, by execution.
fn sort<'a>(
    records: &'a [Record],
    rules: &Rules,
    faults: &mut Vec<String>,
) -> BTreeMap<&'a str, Known<'a>> {
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    let mut first_of: BTreeMap<&str, &str> = BTreeMap::new();
    for record in records {
        if let Seen::Accepted { marker, id } = &record.seen {
            let execution = known.entry(id).or_default();
            if !execution.marker.is_empty() {
                if execution.marker != marker {
                    faults
                        .push(format!("{id}: the answer to {} and to {marker}", execution.marker));
                }
                continue;
            }
            execution.marker = marker;
            execution.accepted = record.answered;
            let first = *first_of.entry(marker).or_insert(id);
            if rules.once_per_marker && first != id {
                faults.push(format!("{marker}: accepted twice, as {first} and as {id}"));
            }
        }
    }
    for Record { asked, answered, seen } in records {
        match seen {
            Seen::Accepted { .. } | Seen::Torn { .. } => {}
            Seen::Status { id, status } => {
                known.entry(id).or_default().statuses.push((*asked, *answered, status));
            }
            Seen::Result { id, files } => {
                known.entry(id).or_default().statuses.push((*asked, *answered, "COMPLETED"));
                known.entry(id).or_default().results.push(files);
            }
            Seen::Cancel { id, answer } => known.entry(id).or_default().cancels.push(*answer),
            Seen::Events { id, events } => known.entry(id).or_default().events.push(events),
            Seen::Unknown { id } => known.entry(id).or_default().unknown += 1,
            Seen::Strange(what) => faults.push(format!("unexplained: {what}")),
        }
    }
    known
}

/// Calls that broke while a server that had been told to end did so.
fn torn_in_order(told: &Told) -> Vec<&str> {
    let within = |record: &Record| {
        let overlaps = |end: &Span| record.asked <= end.to && record.answered >= end.from;
        told.ends_in_order.iter().any(overlaps)
    };
    let torn = told.records.iter().filter_map(|record| match &record.seen {
        Seen::Torn { call } => within(record).then_some(call.as_str()),
        _ => None,
    });
    torn.collect()
}

/// Rows by table, execution and file; each may be there once.
fn count<'a>(
    rows: &'a [Row],
    rules: &Rules,
    faults: &mut Vec<String>,
) -> BTreeSet<(&'a str, &'a str, &'a str)> {
    let mut found = BTreeSet::new();
    let mut of_marker: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Row { table, execution, marker, file } in rows {
        if !found.insert((table.as_str(), execution.as_str(), file.as_str())) {
            faults.push(format!("{marker} ({execution}): {file} is in {table} twice"));
        }
        of_marker.entry(marker).or_default().insert(execution);
    }
    if rules.once_per_marker {
        for (marker, executions) in of_marker.iter().filter(|(_, found)| found.len() > 1) {
            faults.push(format!("{marker}: loaded by several executions: {executions:?}"));
        }
    }
    found
}

/// Statuses move forward in time, and terminal is final. Returns the terminal
/// one.
fn judge_statuses<'a>(
    execution: &Known<'a>,
    rules: &Rules,
    faults: &mut Vec<String>,
) -> Option<&'a str> {
    if execution.unknown > 0 {
        faults.push(format!("answered as unknown {} times", execution.unknown));
    }
    let terminal: BTreeSet<_> =
        execution.statuses.iter().map(|seen| seen.2).filter(|status| is_terminal(status)).collect();
    if terminal.len() > 1 {
        faults.push(format!("ended in several ways: {terminal:?}"));
    }
    for (asked, _, status) in &execution.statuses {
        // Only what was answered before this was asked is certainly earlier.
        let before = execution.statuses.iter().filter(|(_, answered, _)| answered <= asked);
        if let Some((_, _, earlier)) = before.max_by_key(|seen| rank(seen.2))
            && rank(earlier) > rank(status)
        {
            faults.push(format!("{status} after {earlier}"));
            break;
        }
    }
    let last = terminal.first().copied();
    match last {
        None => faults.push("never seen to end".to_owned()),
        Some("ERROR") if !rules.may_fail => faults.push("ended as ERROR".to_owned()),
        Some(_) => {}
    }
    last
}

/// It ends within the limit once a server is there and stays there.
fn judge_end_time(
    execution: &Known,
    up: &[Span],
    rules: &Rules,
    verdict: &mut Verdict,
) -> Option<String> {
    let ended = execution.statuses.iter().filter(|seen| is_terminal(seen.2));
    let ended = ended.map(|seen| seen.1).min()?;
    let waits =
        up.iter().map(|span| span.to.min(ended).saturating_sub(span.from.max(execution.accepted)));
    let longest = waits.clone().max().unwrap_or_default();
    verdict.slowest = longest.max(verdict.slowest);
    verdict.slowest_in_sum = waits.sum::<Duration>().max(verdict.slowest_in_sum);
    let late = longest > rules.limit;
    late.then(|| format!("a server was there for {} ms before it ended", longest.as_millis()))
}

/// A cancel that was answered wins, and nothing stops uncalled.
fn judge_cancels(execution: &Known, last: Option<&str>, faults: &mut Vec<String>) {
    let answered = |answer| execution.cancels.contains(&Some(answer));
    match last {
        Some("STOPPED") if execution.cancels.is_empty() => {
            faults.push("STOPPED, and nobody asked for it".to_owned());
        }
        Some("STOPPED") if answered(CancelAnswer::TooLate) => {
            faults.push("STOPPED, though a cancel was answered as too late".to_owned());
        }
        Some(last) if last != "STOPPED" && answered(CancelAnswer::Noted) => {
            faults.push(format!("{last}, though a cancel was taken note of"));
        }
        _ => {}
    }
}

/// Each follower sees ids that grow, and the same end as everybody.
fn judge_events(execution: &Known, last: Option<&str>, faults: &mut Vec<String>) {
    for events in &execution.events {
        if events.windows(2).any(|pair| pair[0].place >= pair[1].place) {
            faults.push(format!("events out of order or twice: {events:?}"));
        }
        let ends: Vec<_> = events
            .iter()
            .filter_map(|event| event.status.as_deref())
            .filter(|status| is_terminal(status))
            .collect();
        if ends.len() > 1 || ends.first().is_some_and(|end| Some(*end) != last) {
            faults.push(format!("its events tell of {ends:?}, its status of {last:?}"));
        }
    }
}

/// Results are what the input makes them, at every reading.
fn judge_results(execution: &Known, last: Option<&str>, rules: &Rules, faults: &mut Vec<String>) {
    let Some(first) = execution.results.first() else {
        if last == Some("COMPLETED") {
            faults.push("COMPLETED, and its result was never read".to_owned());
        }
        return;
    };
    if execution.results.iter().any(|files| files != first) {
        faults.push("its result changed between readings".to_owned());
    }
    for file in *first {
        let expected = (rules.expected)(execution.marker, &file.name);
        match &file.output {
            Some(output) if *output != expected => {
                faults.push(format!("{} gave {output} instead of {expected}", file.name));
            }
            None if !rules.may_fail => faults.push(format!("{} failed", file.name)),
            _ => {}
        }
    }
}

/// What completed is loaded.
fn judge_loads(
    execution: &Known,
    last: Option<&str>,
    is_loaded: impl Fn(&str, &str) -> bool,
    tables: &[&str],
) -> Vec<String> {
    if last != Some("COMPLETED") {
        return Vec::new();
    }
    let files = execution.results.first().copied().unwrap_or_default();
    let succeeded = files.iter().filter(|file| file.output.is_some());
    let wanted = succeeded.flat_map(|file| tables.iter().map(move |table| (*table, &file.name)));
    wanted
        .filter(|(table, file)| !is_loaded(table, file))
        .map(|(table, file)| format!("COMPLETED, but {file} is not in {table}"))
        .collect()
}
