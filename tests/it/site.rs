//! Servers of the outside, for tests: they count who comes, keep what they are
//! asked, and answer as the test wants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use crate::support::PATIENCE;

/// What a site was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// What a site answers.
pub enum Reply {
    /// These bytes; then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes; then nothing, while the connection stays open.
    Half(Vec<u8>),
}

/// A whole answer.
pub fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    Reply::Raw([head.as_bytes(), body].concat())
}

/// An answer that never comes.
pub fn silence() -> Reply {
    Reply::Half(Vec::new())
}

type Answers = dyn Fn(&Asked) -> Reply + Send + Sync;

/// It listens until it is dropped.
pub struct Site {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that came, requests that came, and connections that ended.
    seen: watch::Receiver<[usize; 3]>,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    /// A site without TLS. `address` is one of this machine's loopback.
    pub async fn start(
        address: &str,
        answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, None, answers).await
    }

    /// A site with the certificate of `authority`.
    pub async fn secure(
        address: &str,
        authority: &Authority,
        answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, Some(authority.acceptor.clone()), answers).await
    }

    async fn serve(
        address: &str,
        tls: Option<TlsAcceptor>,
        answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (counter, seen) = watch::channel([0; 3]);
        let (counter, kept) = (Arc::new(counter), Arc::clone(&asked));
        let answers: Arc<Answers> = Arc::new(answers);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.send_modify(|[came, ..]| *came += 1);
                let (answers, kept) = (Arc::clone(&answers), Arc::clone(&kept));
                let (counter, tls) = (Arc::clone(&counter), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &*answers, &kept, &counter).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &*answers, &kept, &counter).await;
                            }
                        }
                    }
                    counter.send_modify(|[_, _, ended]| *ended += 1);
                });
            }
        });
        Self { address, asked, seen, task }
    }

    /// `http://ADDRESS` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Connections that came so far.
    pub fn connections(&self) -> usize {
        self.seen.borrow()[0]
    }

    /// Waits until so many requests came.
    pub async fn hears(&self, count: usize) {
        self.waits(1, count).await;
    }

    /// Waits until so many connections have ended.
    pub async fn is_left(&self, count: usize) {
        self.waits(2, count).await;
    }

    async fn waits(&self, what: usize, count: usize) {
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|seen| seen[what] >= count);
        tokio::time::timeout(PATIENCE, waiting).await.expect("the site sees it").unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Answers,
    kept: &Mutex<Vec<Asked>>,
    counter: &watch::Sender<[usize; 3]>,
) {
    let Some(asked) = read(&mut stream).await else { return };
    kept.lock().unwrap().push(asked.clone());
    counter.send_modify(|[_, heard, _]| *heard += 1);
    match answers(&asked) {
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Half(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            // Until the other side gives up.
            let _ = stream.read_u8().await;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = vec![0; 16_384];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return Some(Asked {
                method: first.next()?.to_owned(),
                path: first.next()?.to_owned(),
                headers,
                body: bytes[end + 4..end + 4 + length].to_vec(),
            });
        }
    }
}

/// Who vouches for secure sites: a server that trusts its file trusts them.
pub struct Authority {
    pub file: PathBuf,
    acceptor: TlsAcceptor,
}

impl Authority {
    /// One for these names, its certificate in a file of the folder.
    pub fn of(names: &[&str], folder: &Path) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).unwrap();
        let file = folder.join("authority.pem");
        std::fs::write(&file, cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Self { file, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}
