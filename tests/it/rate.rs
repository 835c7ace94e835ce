//! The rate limit lets through exactly what it says, however many come at once.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::support::{Api, ORG, Server, Target, on_each_database};
use crate::wire::{connect, echo, header, parsed, refusal, until_closed};

const CALLERS: usize = 1000;

/// Time in which one request of 100 a minute comes back.
const REFILL: Duration = Duration::from_millis(600);

/// One submission as it was answered.
struct Answered {
    at: Instant,
    status: u16,
    head: String,
}

impl Answered {
    fn number(&self, name: &str) -> u64 {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let value = lines.filter(|(known, _)| *known == name).map(|(_, value)| value).next();
        value.unwrap_or_else(|| panic!("{name} in {}", self.head)).parse().unwrap()
    }
}

/// Submits on a connection that is open already.
async fn submit(mut stream: tokio::net::TcpStream, target: &Target) -> Answered {
    let body = "{\"input_data\": 1}";
    let request = format!(
        "POST /deployment/{}/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\
         \r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        target.public_id,
        target.key,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    let at = Instant::now();
    let (status, body) = parsed(&answer);
    if status == 429 {
        assert_eq!(body["errors"][0]["code"], "rate_limited");
    }
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    Answered { at, status, head }
}

/// All callers at the same moment, each on a connection of its own.
async fn flood(api: &Api, target: &Target) -> Vec<Answered> {
    let ready = Arc::new(Barrier::new(CALLERS));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let stream = connect(api).await;
        let (ready, target) = (Arc::clone(&ready), target.clone());
        callers.push(tokio::spawn(async move {
            ready.wait().await;
            submit(stream, &target).await
        }));
    }
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.unwrap());
    }
    answers
}

fn refills(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / REFILL.as_millis()).unwrap()
}

on_each_database! {
    async fn of_a_thousand_requests_at_once_exactly_the_limit_and_its_refill_pass(database) {
        // Callers and server are in one process: two files for each.
        let files = Rlimit { current: Some(4 * CALLERS as u64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, files).unwrap();
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let rate = json!({"rate_limit": {"requests": 100, "per_seconds": 60, "burst": 100}});
        let target = api.deploy_in(ORG, &key, "demo", echo(), rate).await;
        let begun = Instant::now();
        let answers = flood(api, &target).await;
        let sent = Instant::now();
        let last = submit(connect(api).await, &target).await;

        let (passed, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 202);
        assert!(refused.iter().all(|answer| answer.status == 429));
        assert!(passed.len() >= 100 && refused.len() >= 100, "{} passed", passed.len());
        for answer in &refused {
            assert_eq!(answer.number("retry-after"), 1);
            assert_eq!(answer.number("ratelimit-limit"), 100);
            assert_eq!(answer.number("ratelimit-remaining"), 0);
            assert!((1..=60).contains(&answer.number("ratelimit-reset")));
        }
        // What passed and what is left are the burst and each refill from the
        // first that was admitted to the last that asked. When the first was
        // admitted is known between two moments, and a refill may be due at
        // once or only after its whole time.
        let all = passed.len() as u64 + u64::from(last.status == 202) + last.number("ratelimit-remaining");
        let refilled = all - 100;
        let first = passed.iter().map(|answer| answer.at).min().unwrap();
        let (least, most) = (refills(sent - first), refills(last.at - begun) + 1);
        assert!((least..=most).contains(&refilled), "{refilled} of {least} to {most}");

        // Nobody else asks: who waits as long as told passes.
        let mut waits = refused.iter().map(|answer| answer.number("retry-after"));
        tokio::time::sleep(Duration::from_secs(waits.next().unwrap())).await;
        assert_eq!(submit(connect(api).await, &target).await.status, 202);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_wait_is_told_in_whole_seconds_that_are_enough(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let rate = json!({"rate_limit": {"requests": 2, "per_seconds": 3, "burst": 1}});
        let target = api.deploy_in(ORG, &key, "demo", echo(), rate).await;
        let body = json!({"input_data": 1});
        assert_eq!(api.submit(&target, &body).await.status(), 202);
        let refused = api.submit(&target, &body).await;
        let wait: u64 = header(&refused, "retry-after").parse().unwrap();
        assert_eq!(header(&refused, "ratelimit-reset"), wait.to_string());
        assert_eq!(wait, 2, "one and a half seconds");
        refusal(refused, 429, "rate_limited").await;
        tokio::time::sleep(Duration::from_secs(wait)).await;
        assert_eq!(api.submit(&target, &body).await.status(), 202);
        server.stop().await;
    }
}
