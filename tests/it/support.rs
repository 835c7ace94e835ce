//! What the tests share: whole servers on free ports, in this process or in
//! one of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Toml};
use millrace::app::App;
use millrace::config::{Config, DEFAULTS};
use millrace::engine::Engine;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response};
use sea_orm::sqlx::{self, ConnectOptions, Connection};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The operator token of every server under test.
pub const OPERATOR: &str = "op_test";

/// What every server under test seals secrets with.
pub const SECRETS_KEY: &str = "bWlsbHJhY2UgdGVzdHMgc2VhbCB3aXRoIHRoaXMga2U=";

/// The organisation that the helpers make.
pub const ORG: &str = "acme";

/// Longest wait of any test for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long servers in this process wait for their database, in milliseconds: a
/// disk that many tests share can stall for seconds.
const STORE_PATIENCE: u32 = 20_000;

/// Runs a scenario once on SQLite and once on Postgres.
macro_rules! on_each_database {
    ($(#[doc = $doc:literal])* async fn $name:ident($database:ident) $body:block) => {
        $(#[doc = $doc])*
        mod $name {
            use super::*;

            async fn scenario($database: $crate::support::Database) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                scenario($crate::support::Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() {
                match $crate::support::Database::postgres().await {
                    Some(database) => scenario(database).await,
                    None => println!(concat!("skipped: ", stringify!($name), " needs Postgres")),
                }
            }
        }
    };
}
pub(crate) use on_each_database;

/// An empty database and a folder of its own. Servers that share it are one
/// installation.
pub struct Database {
    pub folder: TempDir,
    pub url: String,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("millrace.db").display());
        Self { folder, url }
    }

    /// None where no cluster was given to the tests.
    pub async fn postgres() -> Option<Self> {
        let admin = std::env::var("MILLRACE_TEST_POSTGRES_URL").ok()?;
        Some(Self::on(&admin).await)
    }

    /// An empty database of the cluster at `admin`.
    pub async fn on(admin: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let options: sqlx::postgres::PgConnectOptions = admin.parse().unwrap();
        let mut connection = options.clone().connect().await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let url = options.database(&name).to_url_lossy().to_string();
        Self { folder: tempfile::tempdir().unwrap(), url }
    }

    /// Path of a file in the folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Settings for a server on this database, `changes` being TOML.
    pub fn config(&self, changes: &str) -> Config {
        let base = json!({
            "server": {"port": 0, "admin_token": OPERATOR},
            "database": {"url": self.url, "answer_timeout_ms": STORE_PATIENCE},
            "documents": {"folder": self.path("documents")},
            "secrets": {"key": SECRETS_KEY},
            "sandbox": {"program": env!("CARGO_BIN_EXE_millrace")},
            "connections": [
                {"org_id": ORG, "name": "warehouse", "kind": "sql",
                 "url": format!("sqlite://{}?mode=rwc", self.path("warehouse.db"))},
                {"org_id": ORG, "name": "archive", "kind": "object_store",
                 "service": "fs", "options": {"root": self.path("archive")}},
            ],
        });
        let figment = Figment::from(Toml::string(DEFAULTS))
            .merge(figment::providers::Serialized::defaults(base))
            .merge(Toml::string(changes));
        Config::from_figment(&figment).unwrap()
    }
}

/// A server in this process, on a thread of its own.
pub struct Server {
    pub api: Api,
    pub engine: Arc<Engine>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, "").await
    }

    /// Starts with settings changed by `changes`, which is TOML.
    pub async fn start_with(database: &Database, changes: &str) -> Self {
        Self::start_config(database.config(changes)).await
    }

    /// Starts with settings that code can give, too.
    pub async fn start_config(config: Config) -> Self {
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = App::start(config).await.unwrap();
                let address = app.address();
                started.send((address, Arc::clone(app.engine()))).ok().unwrap();
                let _ = stopped.await;
                app.stop().await;
            });
        });
        let (address, engine) = starting.await.expect("the server starts");
        let api = Api::new(format!("http://{address}"));
        Self { api, engine, stop: Some(stop), thread: Some(thread) }
    }

    /// Drains and stops, and waits until everything has ended.
    pub async fn stop(mut self) {
        self.stop.take().map(|stop| stop.send(()));
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

/// A server in a process of its own, to be killed.
pub struct Process {
    pub api: Api,
    /// The lines that it printed before it was ready.
    pub printed: Vec<String>,
    child: Mortal,
}

/// A server that may not be ready yet. Dropping it kills it.
pub struct Starting {
    ready: mpsc::Receiver<(String, Vec<String>)>,
    child: Mortal,
}

/// A process that does not outlive its owner.
struct Mortal(Child);

impl Mortal {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Starting {
    /// Starts with further arguments for `serve`, and settings as environment
    /// variables.
    pub fn spawn(
        database: &Database,
        arguments: &[&str],
        changes: &[(&str, &str)],
        log: Stdio,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command
            .arg("serve")
            .args(arguments)
            .current_dir(database.folder.path())
            .env("MILLRACE_SERVER__PORT", "0")
            .env("MILLRACE_SERVER__ADMIN_TOKEN", OPERATOR)
            .env("MILLRACE_DATABASE__URL", &database.url)
            .env("MILLRACE_DOCUMENTS__FOLDER", database.path("documents"))
            .env("MILLRACE_SECRETS__KEY", SECRETS_KEY)
            .env("MILLRACE_LOG__LEVEL", "warn")
            .stderr(log)
            .stdout(Stdio::piped());
        command.envs(changes.iter().copied());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (found, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut printed = Vec::new();
            for line in output.lines().map_while(Result::ok) {
                match line.strip_prefix("listening on ") {
                    Some(url) => {
                        let _ = found.send((url.to_owned(), std::mem::take(&mut printed)));
                    }
                    None => printed.push(line),
                }
            }
        });
        Self { ready, child: Mortal(child) }
    }

    /// Waits until it is ready.
    pub async fn ready(self) -> Process {
        self.ready_or_gone().await.expect("the server starts")
    }

    /// Waits until it is ready; none if it ends before.
    pub async fn ready_or_gone(self) -> Option<Process> {
        let Self { ready, child } = self;
        let ready = tokio::task::spawn_blocking(move || ready.recv_timeout(PATIENCE)).await;
        let (url, printed) = ready.unwrap().ok()?;
        Some(Process { api: Api::new(url), printed, child })
    }
}

impl Process {
    pub async fn start(database: &Database, changes: &[(&str, &str)]) -> Self {
        Self::start_with(database, &[], changes).await
    }

    /// Starts with further arguments for `serve`, and settings as environment
    /// variables.
    pub async fn start_with(
        database: &Database,
        arguments: &[&str],
        changes: &[(&str, &str)],
    ) -> Self {
        Starting::spawn(database, arguments, changes, Stdio::inherit()).ready().await
    }

    /// Starts with a log of this level, which goes into a file.
    pub async fn start_logging(database: &Database, level: &str, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let changes = [("MILLRACE_LOG__LEVEL", level)];
        Starting::spawn(database, &[], &changes, log.into()).ready().await
    }

    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// SIGKILL: no chance to tidy up.
    pub fn kill(mut self) {
        self.child.kill();
    }

    /// Waits for its end.
    pub async fn exit(mut self) -> ExitStatus {
        let ending = async {
            loop {
                if let Some(status) = self.child.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ending).await.expect("it ends")
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let (signal, id) = (format!("-{name}"), self.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    /// SIGTERM, and the wait for its end. True if it ended well.
    pub fn terminate(self) -> bool {
        self.tell_to_end();
        self.ended()
    }

    /// SIGTERM.
    pub fn tell_to_end(&self) {
        self.signal("TERM");
    }

    /// Waits for its end. True if it ended well.
    pub fn ended(mut self) -> bool {
        tokio::task::block_in_place(|| self.child.0.wait().unwrap().success())
    }
}

/// Calls to a server.
#[derive(Clone)]
pub struct Api {
    pub url: String,
    pub client: Client,
}

/// A deployment and its key.
#[derive(Debug, Clone)]
pub struct Target {
    pub platform_key: String,
    pub id: String,
    pub public_id: String,
    pub api_name: String,
    pub key: String,
}

impl Api {
    pub fn new(url: String) -> Self {
        // The server gives its own clients TLS by themselves; this one has
        // none of its own.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        Self { url, client }
    }

    pub fn post(&self, path: &str, key: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).bearer_auth(key)
    }

    pub fn get(&self, path: &str, key: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url)).bearer_auth(key)
    }

    /// Makes an organisation; returns its platform key.
    pub async fn organisation(&self, org_id: &str) -> String {
        let path = "/api/v1/admin/organization/";
        let answer = self.post(path, OPERATOR).json(&json!({"org_id": org_id})).send().await;
        let body = json_of(answer.unwrap(), 201).await;
        body["platform_key"].as_str().unwrap().to_owned()
    }

    /// Makes the organisation [`ORG`] with a deployment of `steps`.
    pub async fn deploy(&self, steps: Value) -> Target {
        let key = self.organisation(ORG).await;
        self.deploy_in(ORG, &key, "demo", steps, json!({})).await
    }

    /// Makes a workflow and its deployment, both named `name`.
    pub async fn deploy_in(
        &self,
        org_id: &str,
        platform_key: &str,
        name: &str,
        steps: Value,
        settings: Value,
    ) -> Target {
        let base = format!("/unstract/{org_id}/api/v2");
        let workflow = json!({"name": name, "type": "TASK", "steps": steps});
        let request = self.post(&format!("{base}/workflow/"), platform_key).json(&workflow);
        let workflow = json_of(request.send().await.unwrap(), 201).await;
        let mut deployment = json!({"api_name": name, "workflow": workflow["id"],
            "rate_limit": {"requests": 100_000, "per_seconds": 1, "burst": 100_000},
            "max_queued": 100_000});
        deployment.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let request = self.post(&format!("{base}/api-deployment/"), platform_key);
        let made = json_of(request.json(&deployment).send().await.unwrap(), 201).await;
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Target {
            platform_key: platform_key.to_owned(),
            id: text("id"),
            public_id: text("public_id"),
            api_name: text("api_name"),
            key: text("api_key"),
        }
    }

    /// Submits JSON.
    pub async fn submit(&self, target: &Target, body: &Value) -> Response {
        let path = format!("/deployment/{}/", target.public_id);
        self.post(&path, &target.key).json(body).send().await.unwrap()
    }

    /// Submits JSON that is accepted; returns the execution's id.
    pub async fn accepted(&self, target: &Target, body: &Value) -> String {
        let body = json_of(self.submit(target, body).await, 202).await;
        body["execution_id"].as_str().unwrap().to_owned()
    }

    /// Submits a file by multipart form; returns the execution's id.
    pub async fn upload(&self, target: &Target, file: &Path) -> String {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let form =
            Form::new().part("files", Part::bytes(std::fs::read(file).unwrap()).file_name(name));
        let path = format!("/deployment/{}/", target.public_id);
        let answer = self.post(&path, &target.key).multipart(form).send().await;
        let body = json_of(answer.unwrap(), 202).await;
        body["execution_id"].as_str().unwrap().to_owned()
    }

    /// What the workflow gives for a file, which it must be able to read.
    pub async fn output(&self, target: &Target, file: &Path) -> Value {
        let id = self.upload(target, file).await;
        let status = self.ended(target, &id).await;
        assert_eq!(status["status"], "COMPLETED", "{}: {}", file.display(), status["error"]);
        self.result(target, &id).await[0]["result"]["output"].clone()
    }

    /// Polls until the execution has ended; returns its last status.
    pub async fn ended(&self, target: &Target, id: &str) -> Value {
        let path = format!("/deployment/{}/status/{id}/?wait=20", target.public_id);
        let polling = async {
            loop {
                let answer = self.get(&path, &target.key).send().await.unwrap();
                let body = json_of(answer, 200).await;
                if !["PENDING", "EXECUTING"].contains(&body["status"].as_str().unwrap()) {
                    return body;
                }
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("it ends in time")
    }

    /// The result of an execution that completed.
    pub async fn result(&self, target: &Target, id: &str) -> Value {
        let path = format!("/deployment/{}/result/{id}/", target.public_id);
        let answer = self.get(&path, &target.key).send().await.unwrap();
        json_of(answer, 200).await["result"].clone()
    }
}

/// Reads a JSON file.
pub fn read_json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The documents in a folder of the corpus, none where it is not there.
pub fn corpus(folder: &str) -> Vec<PathBuf> {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")).join(folder);
    let Ok(entries) = std::fs::read_dir(&corpus) else {
        println!("skipped: reading the corpus' {folder} needs ../shared");
        return Vec::new();
    };
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    files
}

/// The body of an answer that must have this status.
pub async fn json_of(answer: Response, status: u16) -> Value {
    let got = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
