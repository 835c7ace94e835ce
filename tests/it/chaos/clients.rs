//! The load: clients that submit, follow, cancel and read again, and enter
//! every answer into the history. What gets no answer, or is refused for now,
//! they repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use super::check::is_terminal;
use super::history::{CancelAnswer, Event, File, History, Seen};
use super::workload::{Marker, Targets};
use crate::event_stream::{Stream, path as events_path};
use crate::support::{Api, PATIENCE, Target};

/// Between two tries where nobody answered.
const AWAY: Duration = Duration::from_millis(20);

/// Between two looks at one execution.
const POLL: Duration = Duration::from_millis(20);

/// Longest pause that a client makes because it was asked to, so that the load
/// stays up.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What all clients share.
pub struct Load {
    pub history: History,
    pub targets: Targets,
    /// Where the nodes are, or were last.
    pub nodes: Vec<watch::Receiver<Api>>,
    /// No further submissions are begun.
    pub over: AtomicBool,
    /// Executions known to be accepted.
    pub accepted: AtomicUsize,
    /// Calls that got no answer.
    pub unanswered: AtomicUsize,
    /// Calls that were refused for now.
    pub refused: AtomicUsize,
}

/// An answer that says something.
struct Answer {
    asked: Duration,
    status: StatusCode,
    body: Value,
}

impl Load {
    pub fn new(targets: Targets, nodes: Vec<watch::Receiver<Api>>) -> Self {
        Self {
            history: History::new(),
            targets,
            nodes,
            over: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// One of the nodes, as a balancer would choose.
    fn api(&self, rng: &mut Rng) -> Api {
        self.nodes[rng.usize(0..self.nodes.len())].borrow().clone()
    }

    /// Calls once. None if there was no answer, or one to come back later;
    /// then it has paused.
    async fn once(&self, request: RequestBuilder) -> Option<Answer> {
        let asked = self.history.now();
        let (client, request) = request.build_split();
        let request = request.expect("a request that can be made");
        let call = format!("{} {}", request.method(), request.url().path());
        let answer = match client.execute(request).await {
            Ok(answer) => {
                let (status, wait) = (answer.status(), retry_after(&answer));
                answer.text().await.map(|text| (status, wait, text))
            }
            Err(error) => Err(error),
        };
        let (status, wait, text) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                if !error.is_connect() {
                    self.history.note(asked, Seen::Torn { call });
                }
                tokio::time::sleep(AWAY).await;
                return None;
            }
        };
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            match wait {
                Some(wait) => tokio::time::sleep(wait.min(LONGEST_PAUSE)).await,
                None => self.strange(asked, &format!("{status} without Retry-After: {text}")),
            }
            return None;
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Answer { asked, status, body })
    }

    /// Calls until there is an answer that says something.
    async fn insist(&self, rng: &mut Rng, request: impl Fn(&Api) -> RequestBuilder) -> Answer {
        let insisting = async {
            loop {
                if let Some(answer) = self.once(request(&self.api(rng))).await {
                    return answer;
                }
            }
        };
        tokio::time::timeout(3 * PATIENCE, insisting).await.expect("an answer comes in time")
    }

    fn strange(&self, asked: Duration, what: &str) {
        self.history.note(asked, Seen::Strange(what.to_owned()));
    }

    /// Submits until it is accepted; none if it is refused for good.
    pub async fn submit(&self, rng: &mut Rng, marker: &Marker) -> Option<String> {
        let answer = self.insist(rng, |api| marker.request(api, &self.targets)).await;
        let id = answer.body["execution_id"].as_str().map(str::to_owned);
        let (StatusCode::ACCEPTED, Some(id)) = (answer.status, id) else {
            let (status, body) = (answer.status, answer.body);
            self.strange(answer.asked, &format!("{} got {status}: {body}", marker.name));
            return None;
        };
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let marker = marker.name.clone();
        self.history.note(answer.asked, Seen::Accepted { marker, id: id.clone() });
        Some(id)
    }

    /// Asks once more where an execution stands; true if it has ended.
    async fn status(&self, rng: &mut Rng, target: &Target, id: &str, wait: u32) -> bool {
        let path = format!("/deployment/{}/status/{id}/?wait={wait}", target.public_id);
        let answer = self.insist(rng, |api| api.get(&path, &target.key)).await;
        let id = id.to_owned();
        let seen = match (answer.status, answer.body["status"].as_str()) {
            (StatusCode::OK, Some(status)) => Seen::Status { id, status: status.to_owned() },
            (StatusCode::NOT_FOUND, _) => Seen::Unknown { id },
            (status, _) => Seen::Strange(format!("status of {id}: {status} {}", answer.body)),
        };
        let goes_on = matches!(&seen, Seen::Status { status, .. } if !is_terminal(status));
        self.history.note(answer.asked, seen);
        !goes_on
    }

    /// Asks for the status until it is terminal; what never ends the checker
    /// tells.
    pub async fn to_its_end(&self, rng: &mut Rng, target: &Target, id: &str) {
        let wait = rng.u32(0..3);
        let polling = async {
            while !self.status(rng, target, id, wait).await {
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, polling).await;
    }

    /// Reads the result.
    pub async fn result(&self, rng: &mut Rng, target: &Target, id: &str) {
        let path = format!("/deployment/{}/result/{id}/", target.public_id);
        let Answer { asked, status, body } =
            self.insist(rng, |api| api.get(&path, &target.key)).await;
        let id = id.to_owned();
        let code = body["errors"][0]["code"].as_str().unwrap_or_default();
        let seen = match (status, code) {
            (StatusCode::OK, _) => Seen::Result { id, files: files(&body["result"]) },
            (StatusCode::ACCEPTED, _) => {
                Seen::Status { id, status: body["status"].as_str().unwrap_or_default().to_owned() }
            }
            (StatusCode::CONFLICT, "execution_stopped") => {
                Seen::Status { id, status: "STOPPED".to_owned() }
            }
            (StatusCode::UNPROCESSABLE_ENTITY, "execution_failed") => {
                Seen::Status { id, status: "ERROR".to_owned() }
            }
            (StatusCode::NOT_FOUND, _) => Seen::Unknown { id },
            _ => Seen::Strange(format!("result of {id}: {status} {body}")),
        };
        self.history.note(asked, seen);
    }

    /// Cancels, once: whether a call without an answer came through stays open.
    pub async fn cancel(&self, rng: &mut Rng, target: &Target, id: &str) {
        let path = format!("/deployment/{}/cancel/{id}/", target.public_id);
        let asked = self.history.now();
        let answer = self.once(self.api(rng).post(&path, &target.key)).await;
        let id = id.to_owned();
        let seen = match answer.map(|answer| (answer.status, answer.body)) {
            None => Seen::Cancel { id, answer: None },
            Some((StatusCode::ACCEPTED, _)) => {
                Seen::Cancel { id, answer: Some(CancelAnswer::Noted) }
            }
            Some((StatusCode::CONFLICT, _)) => {
                Seen::Cancel { id, answer: Some(CancelAnswer::TooLate) }
            }
            Some((StatusCode::NOT_FOUND, _)) => Seen::Unknown { id },
            Some((status, body)) => Seen::Strange(format!("cancel of {id}: {status} {body}")),
        };
        self.history.note(asked, seen);
    }

    /// Follows the events to the end, coming back after each break with the id
    /// of the last one.
    async fn follow(&self, rng: &mut Rng, target: &Target, id: &str) {
        let asked = self.history.now();
        let mut events: Vec<Event> = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let api = self.api(rng);
            let mut request = api.get(&events_path(target, id), &target.key);
            if let Some(last) = &last {
                request = request.header("Last-Event-ID", last);
            }
            let Ok(answer) = request.send().await else {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AWAY).await;
                continue;
            };
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NO_CONTENT => break,
                StatusCode::SERVICE_UNAVAILABLE => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    continue;
                }
                status => {
                    self.strange(asked, &format!("events of {id}: {status}"));
                    break;
                }
            }
            let mut stream = Stream::of(answer);
            while let Some(event) = stream.next().await {
                last = Some(event.id.clone());
                let status = (event.kind == "status").then(|| event.brief());
                events.push(Event { place: event.place(), status });
            }
            tokio::time::sleep(POLL).await;
        }
        self.history.note(asked, Seen::Events { id: id.to_owned(), events });
    }

    /// Follows an execution to its end, and reads its result.
    async fn see_through(&self, mut rng: Rng, target: &Target, id: &str) {
        match rng.u32(0..8) {
            0 => self.cancel(&mut rng, target, id).await,
            1 => self.follow(&mut rng, target, id).await,
            _ => {}
        }
        self.to_its_end(&mut rng, target, id).await;
        self.result(&mut rng, target, id).await;
    }

    /// Submits a few, follows all of them to its end, reads old ones again; until the
    /// run is over.
    pub async fn client(self: Arc<Self>, number: usize, seed: u64) -> Vec<(String, Marker)> {
        let mut rng = Rng::with_seed(seed.wrapping_add(number as u64));
        let mut mine: Vec<(String, Marker)> = Vec::new();
        let mut next = 0;
        while !self.over.load(Ordering::Relaxed) {
            let before = mine.len();
            for _ in 0..rng.usize(1..4) {
                let marker = Marker::new(number, next);
                next += 1;
                if let Some(id) = self.submit(&mut rng, &marker).await {
                    mine.push((id, marker));
                }
            }
            let seen = mine[before..]
                .iter()
                .map(|(id, marker)| self.see_through(rng.fork(), marker.target(&self.targets), id));
            join_all(seen.collect::<Vec<_>>()).await;
            if let Some((id, marker)) = rng.choice(&mine) {
                let target = marker.target(&self.targets);
                self.status(&mut rng, target, id, 0).await;
                self.result(&mut rng, target, id).await;
            }
        }
        mine
    }

    /// Reads once more what became of an execution.
    pub async fn read_again(&self, id: &str, marker: &Marker) {
        let mut rng = Rng::with_seed(0);
        let target = marker.target(&self.targets);
        self.status(&mut rng, target, id, 0).await;
        self.result(&mut rng, target, id).await;
    }
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let text = answer.headers().get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(text.parse().ok()?))
}

fn files(result: &Value) -> Vec<File> {
    let files = result.as_array().into_iter().flatten();
    let files = files.map(|file| File {
        name: file["file"].as_str().unwrap_or_default().to_owned(),
        output: (file["status"] == "Success").then(|| file["result"]["output"].clone()),
    });
    files.collect()
}
