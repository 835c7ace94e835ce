//! A small steady load, and what its callers were told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{Api, PATIENCE, Target};
use crate::wire::assert_refusal;

/// Callers at once.
pub const CALLERS: usize = 8;

/// What all callers together were told.
#[derive(Default, Clone)]
pub struct Told {
    /// Executions that were accepted: their input and id.
    pub accepted: Vec<(usize, String)>,
    /// Submissions that were refused with 503, by caller.
    pub refused: [usize; CALLERS],
    /// The longest wait for any answer.
    pub slowest: Duration,
    /// Calls whose connection broke.
    pub broken: Vec<String>,
    /// Calls for which nobody listened.
    pub unheard: usize,
}

/// Callers who submit one thing after the other until they are told to end, or
/// that the server does.
pub struct Callers {
    told: Arc<Mutex<Told>>,
    ending: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    /// `target` must pass on its input. An answer that is neither 202 nor a
    /// 503 in the one shape with `Retry-After` fails the test in
    /// [`Callers::end`].
    pub fn start(api: &Api, target: &Target) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let caller = |number: usize| {
            let (api, target) = (api.clone(), target.clone());
            let (told, ending) = (Arc::clone(&told), Arc::clone(&ending));
            tokio::spawn(async move {
                let mut turn = number;
                // Whoever is told that the server ends goes elsewhere.
                while !ending.load(Ordering::Relaxed)
                    && submit(&api, &target, number, turn, &told).await != "draining"
                {
                    turn += CALLERS;
                }
            })
        };
        let tasks = (0..CALLERS).map(caller).collect();
        Self { told, ending, tasks }
    }

    /// What they were told so far.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// Waits until they were told enough; says how long that took.
    pub async fn until(&self, what: &str, enough: impl Fn(&Told) -> bool) -> Duration {
        let start = Instant::now();
        let telling = async {
            while !enough(&self.told()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, telling).await.expect(what);
        start.elapsed()
    }

    /// Waits until every caller was refused `more` times from now on.
    pub async fn refused(&self, more: usize) {
        let before = self.told().refused;
        let all = |told: &Told| {
            told.refused.iter().zip(before).all(|(now, before)| *now >= before + more)
        };
        self.until("everybody is refused", all).await;
    }

    /// Waits until `more` are accepted from now on; says how long that took.
    pub async fn accepted(&self, more: usize) -> Duration {
        let before = self.told().accepted.len();
        self.until("they are accepted", |told| told.accepted.len() >= before + more).await
    }

    /// Ends the load; returns what its callers were told.
    pub async fn end(self) -> Told {
        self.ending.store(true, Ordering::Relaxed);
        self.dismissed().await
    }

    /// Waits until each was told that the server ends; returns what they were
    /// told.
    pub async fn dismissed(self) -> Told {
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("they end").unwrap();
        }
        self.told.lock().unwrap().clone()
    }
}

/// Submits once; returns the code of a refusal.
async fn submit(
    api: &Api,
    target: &Target,
    caller: usize,
    turn: usize,
    told: &Mutex<Told>,
) -> String {
    let start = Instant::now();
    let path = format!("/deployment/{}/", target.public_id);
    let body = json!({"input_data": turn});
    let answer = match api.post(&path, &target.key).json(&body).send().await {
        Ok(answer) => answer,
        Err(error) => {
            match error.is_connect() {
                true => told.lock().unwrap().unheard += 1,
                false => told.lock().unwrap().broken.push(format!("{error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            return String::new();
        }
    };
    let status = answer.status().as_u16();
    let wait = answer.headers().get("retry-after").is_some();
    let body: serde_json::Value = answer.json().await.unwrap();
    {
        let mut told = told.lock().unwrap();
        told.slowest = told.slowest.max(start.elapsed());
        if status == 202 {
            told.accepted.push((turn, body["execution_id"].as_str().unwrap().to_owned()));
            return String::new();
        }
        told.refused[caller] += 1;
    }
    assert_eq!(status, 503, "{body}");
    assert!(wait, "it says when to come back");
    let code = body["errors"][0]["code"].as_str().unwrap().to_owned();
    assert!(["store_unavailable", "draining"].contains(&code.as_str()), "{body}");
    assert_refusal(&body, &code);
    // As they were asked to, only sooner.
    tokio::time::sleep(Duration::from_millis(20)).await;
    code
}
