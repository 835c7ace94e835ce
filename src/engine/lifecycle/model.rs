//! The table against a model that knows no table: only what has happened so
//! far. `LIFECYCLE_SEED=… cargo test model` repeats a run.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use uuid::Uuid;

use super::*;

const LIVES: u32 = 20_000;
const TRANSITIONS: usize = 50;

/// What happened to one execution.
#[derive(Debug, Clone, Default)]
struct History {
    begun: bool,
    end: Option<Event>,
    /// Whether the last event was one that could happen.
    was_legal: bool,
}

impl History {
    fn allows(&self, event: Event) -> bool {
        let is_open = self.end.is_none();
        match event {
            Event::Start => is_open && !self.begun,
            Event::Resume | Event::Succeed => is_open && self.begun,
            Event::Fail | Event::Stop => is_open,
        }
    }

    fn status(&self) -> Status {
        match self.end {
            Some(Event::Succeed) => Status::Completed,
            Some(Event::Stop) => Status::Stopped,
            Some(_) => Status::Error,
            None if self.begun => Status::Executing,
            None => Status::Pending,
        }
    }
}

#[derive(Debug, Clone)]
enum Transition {
    /// Something happens, or is said to.
    Happens(Event),
    /// The next execution's turn: without it a run would soon be over.
    Another,
}

struct Model;

impl ReferenceStateMachine for Model {
    type State = History;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<History> {
        Just(History::default()).boxed()
    }

    fn transitions(history: &History) -> BoxedStrategy<Transition> {
        // Ends are rare while it runs, so that lives are long; after the end
        // every event is tried before the next life.
        let (end, another) = if history.end.is_none() { (1, 1) } else { (4, 4) };
        prop_oneof![
            4 => Just(Transition::Happens(Event::Start)),
            4 => Just(Transition::Happens(Event::Resume)),
            end => Just(Transition::Happens(Event::Succeed)),
            end => Just(Transition::Happens(Event::Fail)),
            end => Just(Transition::Happens(Event::Stop)),
            another => Just(Transition::Another),
        ]
        .boxed()
    }

    fn apply(mut history: History, transition: &Transition) -> History {
        let Transition::Happens(event) = *transition else { return History::default() };
        history.was_legal = history.allows(event);
        if history.was_legal {
            match event {
                Event::Start | Event::Resume => history.begun = true,
                Event::Succeed | Event::Fail | Event::Stop => history.end = Some(event),
            }
        }
        history
    }
}

struct Table;

impl StateMachineTest for Table {
    type SystemUnderTest = Status;
    type Reference = Model;

    fn init_test(_: &History) -> Status {
        Status::Pending
    }

    fn apply(status: Status, history: &History, transition: Transition) -> Status {
        let Transition::Happens(event) = transition else { return Status::Pending };
        match next(status, event) {
            Ok(next) => {
                assert!(history.was_legal, "{event:?} was let through in {status:?}");
                assert!(!is_terminal(status), "{status:?} was left");
                next
            }
            Err(refused) => {
                assert!(!history.was_legal, "{event:?} was refused in {status:?}");
                assert_eq!(refused, IllegalTransition { status, event });
                status
            }
        }
    }

    fn check_invariants(status: &Status, history: &History) {
        assert_eq!(*status, history.status());
        assert_eq!(is_terminal(*status), history.end.is_some());
    }
}

#[test]
fn a_million_transitions_leave_table_and_model_in_one_state() {
    let seed = std::env::var("LIFECYCLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1);
    println!("LIFECYCLE_SEED={seed}");
    let bytes = seed.to_le_bytes().repeat(4);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases: LIVES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config.clone(), rng);
    let applied = Rc::new(Cell::new(0));
    let outcome = runner.run(
        &Model::sequential_strategy(TRANSITIONS..=TRANSITIONS),
        |(history, transitions, seen)| {
            applied.set(applied.get() + transitions.len());
            Table::test_sequential(config.clone(), history, transitions, seen);
            Ok(())
        },
    );
    println!("{} transitions", applied.get());
    if let Err(failure) = outcome {
        panic!("LIFECYCLE_SEED={seed}: {failure}");
    }
    assert_eq!(applied.get(), 1_000_000);
}
