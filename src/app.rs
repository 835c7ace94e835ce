//! Start and stop of everything, in order. Nothing is global: two servers run
//! in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App as WebApp, HttpServer};
use apistos::app::OpenApiWrapper;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::api::budget::Budget;
use crate::api::{self, State};
use crate::config::{Config, ConfigError, DeploymentsConfig};
use crate::documents::fetch::Fetcher;
use crate::documents::{DocumentStore, StoreError as DocumentError};
use crate::engine::admission::Gauge;
use crate::engine::audit::Author;
use crate::engine::declared::outcome::Problem;
use crate::engine::declared::{Declarations, Watching};
use crate::engine::{Engine, connections};
use crate::error::{ApiError, Code};
use crate::ids;
use crate::outbound::{Outbound, OutboundError};
use crate::sandbox::Sandbox;
use crate::secrets::{Keyring, SecretsError};
use crate::steps::Services;
use crate::store::committer::Committer;
use crate::store::{Store, StoreError};

/// Longest wait at the stop for answers on their way, in seconds, beside what
/// they may wait for the database.
const LAST_ANSWERS: u64 = 5;

/// Where the hash of a generated operator token is remembered.
const OPERATOR_SETTING: &str = "operator_token_hash";

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document store.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// The keys that seal secrets, or what they cannot open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The clients of what is outside.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The address, or a thread.
    #[error("cannot start on {address}: {error}")]
    Listen {
        /// What was to be listened on.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
}

/// A server that serves.
pub struct App {
    engine: Arc<Engine>,
    declarations: Arc<Declarations>,
    watching: Watching,
    http: ServerHandle,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    address: SocketAddr,
    operator_token: Option<SecretString>,
    /// Drives steps and the database. Ends last.
    work: Runtime,
}

impl App {
    /// Starts everything: store, document store, sandbox, engine, then HTTP.
    /// Call it inside an actix system.
    ///
    /// # Errors
    /// [`StartError`] names what is missing.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let work = Builder::new_multi_thread()
            .worker_threads(config.engine.step_threads)
            .thread_name("millrace-work")
            .enable_all()
            .build()
            .map_err(|error| StartError::Listen { address: "a thread".into(), error })?;
        match Started::start(config, work.handle().clone()).await {
            Ok(Started { engine, declarations, watching, http, operator_token }) => {
                let (http, serving, address) = http;
                Ok(Self {
                    engine,
                    declarations,
                    watching,
                    http,
                    serving,
                    address,
                    operator_token,
                    work,
                })
            }
            Err(error) => {
                // Dropped here it would block, which an async context refuses.
                work.shutdown_background();
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The engine, for whoever sets the server up.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Reads the deployment files again, soon.
    pub fn reload(&self) {
        self.declarations.ask();
    }

    /// The operator token, if it was made at this start: to be shown once.
    pub fn operator_token(&self) -> Option<&str> {
        self.operator_token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// Drains and stops: new submissions are refused while running work ends
    /// and callers still read; then HTTP stops; then what is left is handed
    /// back.
    pub async fn stop(self) {
        drop(self.watching);
        self.engine.drain().await;
        self.http.stop(true).await;
        if let Err(error) = self.serving.await {
            tracing::debug!(%error, "the HTTP server's task failed");
        }
        self.engine.stop().await;
        self.engine.store().clone().close().await;
        // A step that ignores its cancellation must not hold up the exit.
        self.work.shutdown_background();
    }
}

/// Brings the deployment files into force. Where they cannot be used, the
/// server starts with what the store has: a restart must not be an outage.
async fn declare(
    engine: &Arc<Engine>,
    config: &DeploymentsConfig,
) -> (Arc<Declarations>, Watching) {
    let declarations = Arc::new(Declarations::new(Arc::clone(engine), config.folder.clone()));
    // The log has the reason. What the store failed is tried again.
    if let Err(Problem::Store(_)) = declarations.reload(Author::files(), false).await {
        declarations.ask();
    }
    let settle = Duration::from_millis(config.settle_ms);
    let watching = Watching::start(Arc::clone(&declarations), config.watch, settle);
    (declarations, watching)
}

/// What has been started on the work runtime.
struct Started {
    engine: Arc<Engine>,
    declarations: Arc<Declarations>,
    watching: Watching,
    http: Listening,
    operator_token: Option<SecretString>,
}

impl Started {
    async fn start(config: Config, work: Handle) -> Result<Self, StartError> {
        let store = Store::open(&config, work.clone()).await?;
        let (operator, operator_token) = operator(&config, &store).await?;
        let services = services(&config, &store).await?;
        let fetcher =
            Fetcher::new(&config.fetch, services.outbound.clone(), services.documents.clone());
        let lanes = if config.is_sqlite() { 1 } else { config.database.committers };
        let committer = Committer::start(
            &store,
            lanes,
            config.database.commit_batch,
            config.database.commit_queue,
        );
        let engine =
            Engine::start(config.engine.clone(), config.upkeep(), store, committer, services, work);
        let engine = Arc::new(engine.await?);
        let (declarations, watching) = declare(&engine, &config.deployments).await;
        let http = listen(State {
            engine: Arc::clone(&engine),
            bodies: Budget::new(config.server.max_body_memory_bytes),
            fetcher,
            declarations: Arc::clone(&declarations),
            config: config.server,
            operator,
            event_streams: Gauge::default(),
        })?;
        Ok(Self { engine, declarations, watching, http, operator_token })
    }
}

/// What steps share, with the stored connections opened.
async fn services(config: &Config, store: &Store) -> Result<Arc<Services>, StartError> {
    // No key is made where there is something that it could not open.
    let may_make = config.is_sqlite() && !store.has_sealed().await?;
    let keyring = Keyring::load(&config.secrets, may_make)?;
    let services = Arc::new(Services {
        documents: DocumentStore::in_folder(&config.documents.folder)?
            .swept_after(Duration::from_secs(config.retention.grace_seconds)),
        sandbox: Sandbox::new(config.sandbox.clone()),
        connections: config.connections(keyring),
        sql: Arc::default(),
        outbound: Outbound::new(&config.outbound)?,
    });
    let closed = connections::reload(store, &services).await?;
    if closed > 0 {
        // Better now than when a step needs them.
        return Err(SecretsError::WrongKey { count: closed }.into());
    }
    Ok(services)
}

type Listening = (ServerHandle, tokio::task::JoinHandle<std::io::Result<()>>, SocketAddr);

fn listen(state: State) -> Result<Listening, StartError> {
    let address = format!("{}:{}", state.config.host, state.config.port);
    let failed = |error| StartError::Listen { address: address.clone(), error };
    let config = state.config.clone();
    // Whoever waits for the database is answered before.
    let last_answers = state.engine.store().patience().as_secs() + LAST_ANSWERS;
    let state = Data::new(state);
    let server = HttpServer::new(move || {
        WebApp::new()
            .document(api::spec())
            .app_data(state.clone())
            .wrap(from_fn(api::slashes::slashes))
            .wrap(from_fn(api::negotiate::negotiate))
            // Wrapped last, it comes first: no refusal escapes it.
            .wrap(from_fn(api::envelope::envelope))
            .configure(api::routes::routes)
            .default_service(actix_web::web::to(|| async {
                Err::<String, _>(ApiError::new(Code::NotFound))
            }))
            .build(api::OPENAPI_PATH)
            .configure(api::docs::routes)
    })
    .workers(config.workers)
    .max_connections(config.max_connections)
    .client_request_timeout(Duration::from_secs(config.head_seconds))
    .keep_alive(Duration::from_secs(config.keep_alive_seconds))
    .client_disconnect_timeout(Duration::from_secs(config.disconnect_seconds))
    .disable_signals()
    .shutdown_timeout(last_answers)
    .bind(&address)
    .map_err(failed)?;
    let unknown = || std::io::Error::other("no address");
    let bound = server.addrs().first().copied().ok_or_else(unknown).map_err(failed)?;
    let server = server.run();
    let handle = server.handle();
    Ok((handle, actix_web::rt::spawn(server), bound))
}

/// The operator token's hash, and the token itself if it was made just now.
async fn operator(
    config: &Config,
    store: &Store,
) -> Result<(blake3::Hash, Option<SecretString>), StartError> {
    let given = &config.server.admin_token;
    if !given.expose_secret().is_empty() {
        return Ok((api::auth::operator_hash(given), None));
    }
    let fresh = ids::operator_token().map_err(|error| StartError::Randomness(error.to_string()))?;
    let hash = api::auth::operator_hash(&fresh);
    let kept = store.setting_or(OPERATOR_SETTING, hash.to_hex().to_string()).await?;
    let kept = blake3::Hash::from_hex(&kept)
        .map_err(|_| StoreError::Fault(format!("setting {OPERATOR_SETTING} is no hash")))?;
    Ok((kept, (kept == hash).then_some(fresh)))
}
