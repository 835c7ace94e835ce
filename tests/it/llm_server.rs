//! A server that speaks as providers of language models do: keeps what it is
//! asked, and answers as the test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{ORG, PATIENCE};

/// The key of every model here.
pub const KEY: &str = "canary-llm-key-7d1f";

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Value,
}

impl Asked {
    /// All messages, in OpenAI's form.
    pub fn messages(&self) -> &Vec<Value> {
        self.body["messages"].as_array().unwrap()
    }

    /// The last message.
    pub fn prompt(&self) -> &str {
        self.messages().last().unwrap()["content"].as_str().unwrap()
    }
}

/// An answer.
pub enum Reply {
    /// Status, further headers, body.
    Raw(u16, &'static str, String),
    /// None: the connection stays open.
    Never,
}

/// What OpenAI answers, with so many tokens of prompt and answer.
pub fn chat_costing(text: &str, prompt: u64, completion: u64) -> Reply {
    let body = json!({"id": "x", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion}});
    Reply::Raw(200, "", body.to_string())
}

/// What OpenAI answers.
#[expect(clippy::needless_pass_by_value, reason = "its callers read better so")]
pub fn chat(text: impl ToString) -> Reply {
    chat_costing(&text.to_string(), 10, 5)
}

/// A refusal, whose words are not for anybody.
pub fn refusal(status: u16, headers: &'static str) -> Reply {
    let body = json!({"error": {"message": "canary-provider-words", "code": "x"}});
    Reply::Raw(status, headers, body.to_string())
}

type Answers = dyn Fn(usize, &Asked) -> Reply + Send + Sync;

/// It listens until it is dropped.
pub struct LlmServer {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: watch::Receiver<usize>,
    /// How many of those that were never answered are gone.
    gone: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl LlmServer {
    /// `answers` is given how many were asked before.
    pub async fn start(answers: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (counter, count) = watch::channel(0);
        let (leaving, gone) = watch::channel(0);
        let (answers, kept): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, kept) = (Arc::clone(&answers), Arc::clone(&kept));
                let (counter, leaving) = (counter.clone(), leaving.clone());
                tokio::spawn(async move {
                    receive(stream, &*answers, &kept, &counter, &leaving).await;
                });
            }
        });
        Self { url, asked, count, gone, task }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until so many were asked.
    pub async fn hears(&self, count: usize) {
        let mut counted = self.count.clone();
        let heard = counted.wait_for(|now| *now >= count);
        tokio::time::timeout(PATIENCE, heard).await.expect("the model is asked").unwrap();
    }

    /// Waits until a caller that was never answered has hung up.
    pub async fn is_left(&self) {
        let mut gone = self.gone.clone();
        let left = gone.wait_for(|now| *now > 0);
        tokio::time::timeout(PATIENCE, left).await.expect("the caller hangs up").unwrap();
    }

    /// Settings that declare it as the connection `name` of an organisation.
    pub fn declared_for(&self, org_id: &str, name: &str, more: &str) -> String {
        format!(
            "[[connections]]\norg_id = \"{org_id}\"\nname = \"{name}\"\nkind = \"llm\"\n\
             provider = \"openai\"\nbase_url = \"{}\"\nmodel = \"m-1\"\napi_key = \"{KEY}\"\n{more}\n",
            self.url
        )
    }

    /// The same for [`ORG`].
    pub fn declared(&self, name: &str, more: &str) -> String {
        self.declared_for(ORG, name, more)
    }
}

impl Drop for LlmServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    mut stream: TcpStream,
    answers: &Answers,
    kept: &Mutex<Vec<Asked>>,
    counter: &watch::Sender<usize>,
    leaving: &watch::Sender<usize>,
) {
    let Some(asked) = read(&mut stream).await else { return };
    let before = {
        let mut kept = kept.lock().unwrap();
        kept.push(asked.clone());
        kept.len() - 1
    };
    let reply = answers(before, &asked);
    counter.send_modify(|count| *count += 1);
    match reply {
        Reply::Raw(status, headers, body) => {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
            );
            drop(stream.write_all(answer.as_bytes()).await);
        }
        Reply::Never => {
            drop(stream.read_u8().await);
            leaving.send_modify(|count| *count += 1);
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = vec![0; 65_536];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = &bytes[end + 4..];
        let mut lines = head.lines();
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
            return Some(Asked { path, headers, body: serde_json::from_slice(body).unwrap() });
        }
    }
}
