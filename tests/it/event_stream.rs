//! Server-sent events, read one by one.

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, Target};

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

impl Event {
    /// Attempt and time.
    pub fn place(&self) -> (u64, u64) {
        let (attempt, micros) = self.id.split_once('-').unwrap();
        (attempt.parse().unwrap(), micros.parse().unwrap())
    }

    /// What changed, without times and ids.
    pub fn brief(&self) -> String {
        let text = |name: &str| self.data[name].as_str().unwrap_or_default().to_owned();
        match self.kind.as_str() {
            "status" => text("status"),
            "document" => format!("{} {}", text("file"), text("state")),
            _ => format!("{} {} {}", text("file"), text("step"), text("state")),
        }
    }
}

/// A stream of events that is being read.
pub struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    pub fn of(response: Response) -> Self {
        Self { response, text: String::new() }
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                match parse(&block) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let piece = read.expect("something comes in time").ok()??;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// All events to the end of the stream.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Reads on to the event that is described so.
    pub async fn until(&mut self, brief: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.expect(brief);
            events.push(event);
            if events.last().unwrap().brief() == brief {
                return events;
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(field, _)| *field == name).map(|(_, value)| value.to_owned()).next()
    };
    let data = serde_json::from_str(&field("data")?).unwrap();
    Some(Event { id: field("id")?, kind: field("event")?, data })
}

/// Where the events are.
pub fn path(target: &Target, id: &str) -> String {
    format!("/deployment/{}/events/{id}/", target.public_id)
}

/// The answer to a caller that has seen `after`.
pub async fn ask(api: &Api, target: &Target, id: &str, after: Option<&str>) -> Response {
    let mut request = api.get(&path(target, id), &target.key).header("Accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("Last-Event-ID", after);
    }
    request.send().await.unwrap()
}

pub async fn follow(api: &Api, target: &Target, id: &str, after: Option<&str>) -> Stream {
    let response = ask(api, target, id, after).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    Stream::of(response)
}

pub fn briefs(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::brief).collect()
}

pub fn assert_increasing(events: &[Event]) {
    for pair in events.windows(2) {
        assert!(pair[0].place() < pair[1].place(), "{pair:?}");
    }
}

/// The second step of documents named `bad…` fails.
pub fn two_steps() -> Value {
    json!([
        {"id": "name", "uses": "jq", "input": "/document", "with": {"filter": ".name"}},
        {"id": "check", "uses": "jq",
         "with": {"filter": "if startswith(\"bad\") then error(\"no\") else . end"}},
    ])
}

pub fn documents(names: &[&str]) -> Value {
    let documents: Vec<_> =
        names.iter().map(|name| json!({"name": name, "content_base64": "eA=="})).collect();
    json!({"documents": documents})
}
