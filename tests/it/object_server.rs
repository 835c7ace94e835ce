//! An object store that speaks S3, in this process, for tests.

use std::path::PathBuf;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The bucket that is there.
pub const BUCKET: &str = "objects";

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key-0d1f";

/// A store with one empty bucket. It stops when it is dropped.
pub struct ObjectServer {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl ObjectServer {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_access(OnlyBucket);
        let service = service.build().into_shared();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let serving = http1::Builder::new();
                    _ = serving.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { url, folder, task }
    }

    /// A table of `[connections.options]` that leads to the bucket; `changes`
    /// take the place of options, or add some.
    pub fn options(&self, changes: &[(&str, &str)]) -> String {
        options(&self.url, changes)
    }

    /// Where an object lies as a file.
    pub fn path(&self, object: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(object)
    }

    /// Names of what lies beside the bucket: parts of uploads that nobody has
    /// put together or taken back.
    pub fn left_over(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload")).collect()
    }
}

/// The folders of the store would be made when they are written to.
struct OnlyBucket;

#[async_trait::async_trait]
impl S3Access for OnlyBucket {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        match context.s3_path().get_bucket_name() {
            Some(BUCKET) => Ok(()),
            _ => Err(s3_error!(NoSuchBucket)),
        }
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Options of an S3 store at `url`, as an inline table of TOML.
pub fn options(url: &str, changes: &[(&str, &str)]) -> String {
    let mut options = std::collections::BTreeMap::from([
        ("bucket", BUCKET),
        ("region", "eu-test-1"),
        ("endpoint", url),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
    ]);
    options.extend(changes.iter().copied());
    let pairs = options.iter().map(|(name, value)| format!("{name} = {value:?}"));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}
