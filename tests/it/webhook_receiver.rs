//! A receiver of webhooks: keeps what it is told, and answers as the test
//! wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Api, ORG, PATIENCE, Target, json_of};
use crate::wire::{call, managed};

/// What deliveries of these tests are signed with, and what is sealed beside.
pub const SECRET: &str = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LTI0Ynl0ZXM=";

/// The value of a header of the connection.
pub const TOKEN: &str = "canary-receiver-token";

/// Stored connections may lead to this machine.
pub const LOCAL: &str = "[outbound]\nallowed_networks = [\"127.0.0.0/8\"]\n";

/// An answer with no body, or with a short one.
pub fn answer(status: &str, rest: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{rest}\r\n{body}"
    ))
}

/// The usual answer.
pub fn taken() -> Option<String> {
    answer("204 No Content", "", "")
}

/// What was told.
#[derive(Debug, Clone)]
pub struct Told {
    pub headers: HashMap<String, String>,
    pub text: String,
}

impl Told {
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn execution(&self) -> String {
        self.body()["data"]["execution_id"].as_str().unwrap().to_owned()
    }

    /// The signatures that these secrets make, by the words of the
    /// specification and RFC 2104, not by the server's own code.
    pub fn signatures(&self, secrets: &[&str]) -> String {
        let content = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.text);
        let signature = |secret: &&str| {
            let mut key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
            key.resize(64, 0);
            let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
            let inner = Sha256::digest([&pad(0x36), content.as_bytes()].concat());
            let outer = Sha256::digest([&pad(0x5c)[..], &inner].concat());
            format!("v1,{}", STANDARD.encode(outer))
        };
        secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

type Answers = dyn Fn(usize, &Told) -> Option<String> + Send + Sync;

/// It listens until it is dropped.
pub struct Receiver {
    pub url: String,
    told: Arc<Mutex<Vec<Told>>>,
    count: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// `answers` is given how many were told before; with None the connection
    /// stays open without an answer.
    pub async fn start(
        answers: impl Fn(usize, &Told) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let (counter, count) = watch::channel(0);
        let (answers, kept): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&told));
        let counter = Arc::new(counter);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, kept) = (Arc::clone(&answers), Arc::clone(&kept));
                let counter = Arc::clone(&counter);
                tokio::spawn(async move { receive(stream, &*answers, &kept, &counter).await });
            }
        });
        Self { url, told, count, task }
    }

    /// What was told so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until so many were told.
    pub async fn hears(&self, count: usize) -> Vec<Told> {
        let mut counted = self.count.clone();
        let heard = counted.wait_for(|now| *now >= count);
        tokio::time::timeout(PATIENCE, heard).await.expect("the receiver is told").unwrap();
        self.told()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    mut stream: TcpStream,
    answers: &Answers,
    kept: &Mutex<Vec<Told>>,
    counter: &watch::Sender<usize>,
) {
    let Some(told) = read(&mut stream).await else { return };
    let before = {
        let mut kept = kept.lock().unwrap();
        kept.push(told.clone());
        kept.len() - 1
    };
    counter.send_modify(|count| *count += 1);
    match answers(before, &told) {
        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
        // Until the sender gives up.
        None => drop(stream.read_u8().await),
    }
}

async fn read(stream: &mut TcpStream) -> Option<Told> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("POST /hook HTTP/1.1"));
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
            return Some(Told { headers, text: body.to_owned() });
        }
    }
}

/// Makes a connection to a receiver, which signs.
pub async fn connect(api: &Api, key: &str, name: &str, url: &str) -> String {
    let write = json!({"name": name, "kind": "http", "base_url": url,
        "headers": {"X-Token": TOKEN}, "signing_secrets": [SECRET]});
    let made = call(api, Method::POST, &managed("connection/"), key, &write).await;
    json_of(made, 201).await["id"].as_str().unwrap().to_owned()
}

/// A deployment of [`ORG`] that tells a connection of its own name.
pub async fn deploy(api: &Api, key: &str, name: &str, url: &str, steps: Value) -> Target {
    connect(api, key, name, url).await;
    api.deploy_in(ORG, key, name, steps, json!({"webhook": {"connection": name}})).await
}

/// The one delivery of an execution, with its attempts.
pub async fn delivery(api: &Api, key: &str, execution: &str) -> Value {
    let path = managed(&format!("webhook-delivery/?execution={execution}"));
    let list = json_of(api.get(&path, key).send().await.unwrap(), 200).await;
    assert_eq!(list["count"], 1, "{list}");
    let path =
        managed(&format!("webhook-delivery/{}/", list["results"][0]["id"].as_str().unwrap()));
    json_of(api.get(&path, key).send().await.unwrap(), 200).await
}

/// Waits until the delivery of an execution stands so.
pub async fn stands(api: &Api, key: &str, execution: &str, state: &str) -> Value {
    let standing = async {
        loop {
            let delivery = delivery(api, key, execution).await;
            if delivery["state"] == state {
                return delivery;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, standing).await.expect("the delivery comes to its state")
}
