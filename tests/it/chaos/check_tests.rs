//! Histories that break one rule each, and one that breaks none.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Row, Rules, Verdict, check};
use super::history::{CancelAnswer, Event, File, Record, Seen, Span, Told};

const TABLES: &[&str] = &["loads"];

/// An execution `x` that was accepted at 1 s as the marker `m`.
struct Made {
    told: Told,
    rows: Vec<Row>,
    may_fail: bool,
    once_per_marker: bool,
}

fn seconds(from: u64) -> Duration {
    Duration::from_secs(from)
}

fn span(from: u64, to: u64) -> Span {
    Span { from: seconds(from), to: seconds(to) }
}

fn expected(marker: &str, file: &str) -> Value {
    json!(format!("{marker}/{file}"))
}

fn status(status: &str) -> Seen {
    Seen::Status { id: "x".into(), status: status.into() }
}

fn result(output: Option<&str>) -> Seen {
    let output = output.map(|text| json!(text));
    Seen::Result { id: "x".into(), files: vec![File { name: "f".into(), output }] }
}

fn cancel(answer: Option<CancelAnswer>) -> Seen {
    Seen::Cancel { id: "x".into(), answer }
}

fn accepted(marker: &str, id: &str) -> Seen {
    Seen::Accepted { marker: marker.into(), id: id.into() }
}

fn events(of: &[(u64, Option<&str>)]) -> Seen {
    let event = |(place, status): &(u64, Option<&str>)| Event {
        place: (1, *place),
        status: status.map(str::to_owned),
    };
    Seen::Events { id: "x".into(), events: of.iter().map(event).collect() }
}

fn row(execution: &str) -> Row {
    let (table, file) = ("loads".into(), "f".into());
    Row { table, execution: execution.into(), marker: "m".into(), file }
}

impl Made {
    fn of(seen: &[(u64, Seen)]) -> Self {
        let mut made = Self {
            told: Told { up: vec![span(0, 100)], ..Told::default() },
            rows: Vec::new(),
            may_fail: false,
            once_per_marker: false,
        };
        made.add(1, accepted("m", "x"));
        seen.iter().for_each(|(at, seen)| made.add(*at, seen.clone()));
        made
    }

    /// Completed and loaded, after what was `seen`.
    fn good(seen: &[(u64, Seen)]) -> Self {
        let mut made = Self::of(seen);
        made.add(9, status("COMPLETED"));
        made.add(9, result(Some("m/f")));
        made.rows.push(row("x"));
        made
    }

    fn add(&mut self, at: u64, seen: Seen) {
        self.told.records.push(Record { asked: seconds(at), answered: seconds(at), seen });
    }

    fn verdict(&self) -> Verdict {
        let rules = Rules {
            limit: seconds(10),
            may_fail: self.may_fail,
            answers_to_the_end: true,
            once_per_marker: self.once_per_marker,
            expected: &expected,
        };
        check(&self.told, &self.rows, TABLES, &rules)
    }

    #[track_caller]
    fn is_good(&self) {
        assert_eq!(self.verdict().faults, Vec::<String>::new());
    }

    #[track_caller]
    fn is_bad(&self, because: &str) {
        let faults = self.verdict().faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(because), "{faults:?}");
    }
}

#[test]
fn a_history_in_order_has_no_fault() {
    let told = events(&[(1, Some("PENDING")), (2, None), (3, Some("COMPLETED"))]);
    let made = Made::good(&[(2, status("PENDING")), (3, status("EXECUTING")), (9, told)]);
    made.is_good();
    let verdict = made.verdict();
    assert_eq!((verdict.accepted, verdict.slowest), (1, seconds(8)));
    assert_eq!(verdict.ended["COMPLETED"], 1);
}

#[test]
fn an_execution_that_is_forgotten_is_a_fault() {
    Made::good(&[(2, Seen::Unknown { id: "x".into() })]).is_bad("unknown");
    Made::of(&[(2, status("EXECUTING"))]).is_bad("never seen to end");
}

#[test]
fn a_status_that_goes_back_is_a_fault_unless_the_calls_overlap() {
    Made::good(&[(2, status("EXECUTING")), (3, status("PENDING"))])
        .is_bad("PENDING after EXECUTING");
    let mut made = Made::good(&[(3, status("EXECUTING"))]);
    let overlapping = Record { asked: seconds(2), answered: seconds(4), seen: status("PENDING") };
    made.told.records.push(overlapping);
    made.is_good();
}

#[test]
fn an_end_that_changes_is_a_fault() {
    let mut made = Made::good(&[(2, status("ERROR"))]);
    made.may_fail = true;
    made.is_bad("several ways");
}

#[test]
fn an_error_is_a_fault_unless_the_run_allows_it() {
    let mut made = Made::of(&[(2, status("ERROR"))]);
    made.is_bad("ended as ERROR");
    made.may_fail = true;
    made.is_good();
}

#[test]
fn a_late_end_is_a_fault_and_time_without_a_server_does_not_count() {
    let mut made = Made::of(&[(13, status("COMPLETED")), (13, result(Some("m/f")))]);
    made.rows.push(row("x"));
    made.is_bad("12000 ms");
    made.told.up = vec![span(0, 5), span(8, 100)];
    made.is_good();
    let verdict = made.verdict();
    assert_eq!((verdict.slowest, verdict.slowest_in_sum), (seconds(5), seconds(9)));
}

#[test]
fn a_cancel_that_was_answered_and_does_not_win_is_a_fault() {
    Made::good(&[(2, cancel(Some(CancelAnswer::Noted)))]).is_bad("taken note of");
    Made::good(&[(2, cancel(Some(CancelAnswer::TooLate)))]).is_good();
    Made::good(&[(2, cancel(None))]).is_good();
    Made::of(&[(2, cancel(None)), (3, status("STOPPED"))]).is_good();
    Made::of(&[(3, status("STOPPED"))]).is_bad("nobody asked");
    Made::of(&[(2, cancel(Some(CancelAnswer::TooLate))), (3, status("STOPPED"))])
        .is_bad("too late");
}

#[test]
fn a_result_that_is_wrong_or_changes_is_a_fault() {
    let mut made = Made::of(&[(2, result(Some("other")))]);
    made.rows.push(row("x"));
    made.is_bad("instead of");
    let mut made = Made::good(&[]);
    made.add(10, result(Some("other")));
    made.is_bad("changed between readings");
    let mut made = Made::of(&[(2, result(None))]);
    made.is_bad("f failed");
    made.may_fail = true;
    made.is_good();
    Made::of(&[(2, status("COMPLETED"))]).is_bad("never read");
}

#[test]
fn events_that_come_twice_or_tell_of_another_end_are_a_fault() {
    Made::good(&[(2, events(&[(1, None), (1, None)]))]).is_bad("out of order");
    Made::good(&[(2, events(&[(1, Some("STOPPED"))]))]).is_bad("its status of");
    Made::good(&[(2, events(&[(1, Some("COMPLETED")), (2, Some("COMPLETED"))]))])
        .is_bad("its status of");
}

#[test]
fn a_load_that_is_missing_or_there_twice_is_a_fault() {
    let mut made = Made::good(&[]);
    made.rows.push(row("x"));
    made.is_bad("twice");
    made.rows.clear();
    made.is_bad("is not in loads");
    // A row of a submission whose answer nobody got is nobody's fault.
    made.rows = vec![row("x"), row("y")];
    made.is_good();
    made.once_per_marker = true;
    made.is_bad("several executions");
}

#[test]
fn two_executions_of_one_marker_are_a_fault_where_repeats_meet() {
    let mut made = Made::good(&[]);
    made.add(2, accepted("m", "x"));
    made.once_per_marker = true;
    made.is_good();
    made.add(2, accepted("other", "x"));
    made.is_bad("the answer to m and to other");
    let mut made = Made::of(&[(2, status("STOPPED")), (2, cancel(None))]);
    made.add(2, accepted("m", "y"));
    made.add(3, Seen::Status { id: "y".into(), status: "STOPPED".into() });
    made.add(3, Seen::Cancel { id: "y".into(), answer: None });
    made.is_good();
    made.once_per_marker = true;
    made.is_bad("accepted twice");
}

#[test]
fn an_answer_that_nothing_explains_is_a_fault() {
    Made::good(&[(2, Seen::Strange("500".into()))]).is_bad("unexplained");
}

#[test]
fn a_call_that_a_server_in_order_leaves_unanswered_is_a_fault() {
    let mut made = Made::good(&[(3, Seen::Torn { call: "a call".into() })]);
    made.is_good();
    made.told.ends_in_order = vec![span(4, 5)];
    made.is_good();
    made.told.ends_in_order = vec![span(2, 4)];
    made.is_bad("left a call unanswered");
}
