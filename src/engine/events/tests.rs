use serde_json::json;

use super::*;
use crate::engine::live::tests::new_row;

fn log() -> EventLog {
    EventLog::new(&new_row())
}

/// A step that succeeded.
fn ended(is_last: bool) -> StepOutcome<'static> {
    StepOutcome { given: Given::Output, error: None, is_last }
}

fn seen(log: &EventLog) -> Vec<What> {
    log.follow().after(None, usize::MAX).into_iter().map(|event| event.what).collect()
}

#[test]
fn nothing_is_seen_before_what_precedes_it_is_recorded() {
    let log = log();
    log.begin_step(0, 0, true).unwrap();
    let end = log.end_step(0, 0, ended(true)).unwrap();
    log.begin_step(1, 0, true).unwrap();
    let before = seen(&log);
    assert_eq!(before.len(), 3, "{before:?}");
    assert_eq!(before[2], What::Step(0, 0, State::Started));
    log.settle(0, end.at);
    let after = seen(&log);
    assert_eq!(after[..3], before);
    assert_eq!(
        after[3..],
        [
            What::Step(0, 0, State::Completed),
            What::Document(0, State::Completed),
            What::Document(1, State::Started),
            What::Step(1, 0, State::Started),
        ]
    );
}

#[test]
fn the_end_interrupts_what_runs_and_what_is_not_recorded_but_for_what_goes_with_it() {
    let log = log();
    let stopped = json!({"code": "cancelled", "detail": "stopped"});
    log.begin_step(0, 0, true).unwrap();
    log.begin_step(1, 0, true).unwrap();
    log.begin_step(2, 0, true).unwrap();
    log.end_step(1, 0, ended(false)).unwrap();
    log.end_step(2, 0, ended(true)).unwrap();
    let interrupted = log.close(&stopped, &[2]);
    let places: Vec<_> = interrupted.iter().map(|step| (step.document, step.step)).collect();
    assert_eq!(places, [(0, 0), (1, 0)]);
    assert!(interrupted.iter().all(|step| step.started_at < step.ended_at));
    assert_eq!(log.begin_step(3, 0, true), None, "nothing begins any more");
    assert_eq!(log.end_step(0, 0, ended(true)), None);
    log.end(Status::Stopped, log.now(), None);
    let events = log.follow().after(None, usize::MAX);
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
    let ends = events.iter().filter_map(|event| match event.what {
        What::Document(document, state) if state != State::Started => Some((document, state)),
        _ => None,
    });
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, [(2, State::Completed), (0, State::Stopped), (1, State::Stopped)]);
    assert!(events.last().unwrap().is_last());
}

#[test]
fn a_later_attempt_comes_later_whatever_its_clock_says() {
    let log = log();
    let first = EventId { attempt: 1, micros: 2_000 };
    let second = EventId { attempt: 2, micros: 1_000 };
    assert!(first < second);
    log.resume(2, []);
    log.begin_step(0, 0, true).unwrap();
    assert_eq!(log.follow().after(None, usize::MAX).last().unwrap().id.attempt(), 2);
    for id in [first, second] {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
