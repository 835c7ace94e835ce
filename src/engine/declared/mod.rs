//! Deployments declared in files. A reload reads all of them, checks all of
//! them, and brings all that changed into force, or nothing.

mod comparison;
pub mod declaration;
pub mod files;
pub mod outcome;
mod watch;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::Engine;
use super::audit::Author;
use super::sources;
use super::webhooks;
use crate::clock;
use crate::store::StoreError;
use crate::store::declared::Stored;
use comparison::Comparison;
use declaration::Declaration;
use files::Source;
use outcome::{Difference, Fault, Problem};

pub use watch::Watching;

/// Times a reload starts over because the store changed under it.
const ATTEMPTS: usize = 5;

/// Files that are checked before the next look at the time.
const PORTION: usize = 32;

/// Between two lines of the log that tell how far a long reload is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Faults that are logged one by one.
const LOGGED: usize = 20;

/// Declarations by file, each with the hash of the text it was read from.
type Known = HashMap<String, (blake3::Hash, Arc<Declaration>)>;

/// The folder of deployment files of one server.
pub struct Declarations {
    engine: Arc<Engine>,
    folder: PathBuf,
    /// Reloads go one at a time.
    turn: Semaphore,
    /// Asks [`Watching`] for a reload. Many asks before it comes to it are one.
    asked: Notify,
    /// What was read last: an unchanged file is not checked again.
    known: Mutex<Known>,
}

impl Declarations {
    /// The files in `folder`, for `engine`.
    pub fn new(engine: Arc<Engine>, folder: PathBuf) -> Self {
        Self {
            engine,
            folder,
            turn: Semaphore::new(1),
            asked: Notify::new(),
            known: Mutex::default(),
        }
    }

    /// The name of the folder, for people.
    pub fn folder_name(&self) -> String {
        let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| "deployments".into())
    }

    /// Asks for a reload soon.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Makes what is declared hold, or only says what would change. When it
    /// returns, every changed deployment is in force; if it fails, none is.
    ///
    /// # Errors
    /// Every fault of every file, or the store's.
    pub async fn reload(
        self: &Arc<Self>,
        author: Author,
        dry_run: bool,
    ) -> Result<Difference, Problem> {
        let this = Arc::clone(self);
        // A task of its own: a caller that goes away between the commit and
        // the registry must not leave the old state in memory.
        let reload = self.engine.context().work.spawn(async move {
            let _turn = this.turn.acquire().await;
            let started = Instant::now();
            let outcome = this.reload_now(&author, dry_run).await;
            this.log(&outcome, dry_run, started.elapsed());
            outcome
        });
        let ended = |_| Err(StoreError::Fault("a reload ended early".into()).into());
        reload.await.unwrap_or_else(ended)
    }

    async fn reload_now(&self, author: &Author, dry_run: bool) -> Result<Difference, Problem> {
        let declarations = self.read().await?;
        let mut attempt = 1;
        loop {
            match self.apply(author, declarations.as_deref(), dry_run).await {
                // Another node, or the API, changed what this rests on.
                Err(Problem::Store(StoreError::Stale | StoreError::Conflict(_)))
                    if attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn apply(
        &self,
        author: &Author,
        declarations: Option<&[Arc<Declaration>]>,
        dry_run: bool,
    ) -> Result<Difference, Problem> {
        let named: HashSet<String> =
            declarations.into_iter().flatten().map(|one| one.org_id.clone()).collect();
        // A task of its own, as long as it takes: there may be many of them.
        let store = &self.engine.context().store;
        let stored = store.stored(named).await?;
        let Some(declarations) = declarations else {
            return match stored.deployments.iter().any(|row| row.declared_in.is_some()) {
                // A folder that is not mounted must not switch everything off.
                true => Err(Problem::Faults(vec![Fault::of_folder(
                    "there is no such folder, and deployments are declared; an empty folder declares none",
                )])),
                false => Ok(Difference::default()),
            };
        };
        self.check_connections(declarations)?;
        let (author, declarations) = (author.clone(), declarations.to_vec());
        let compared = tokio::task::spawn_blocking(move || {
            let made = Comparison::make(&author, clock::now(), &declarations, &stored)?;
            Ok::<_, Problem>((made, stored))
        });
        let ended = |_| Err(StoreError::Fault("a comparison ended early".into()).into());
        let ((changes, difference), stored) = compared.await.unwrap_or_else(ended)?;
        if dry_run {
            return Ok(difference);
        }
        if !changes.is_empty() {
            store.apply(changes).await?;
        }
        let mut ids = difference.ids();
        ids.extend(self.outdated(&stored, &difference));
        if !ids.is_empty() {
            self.engine.refresh_many(ids).await?;
        }
        Ok(difference)
    }

    /// Connections are no part of what is compared: they are in memory.
    fn check_connections(&self, declarations: &[Arc<Declaration>]) -> Result<(), Problem> {
        let connections = &self.engine.context().services.connections;
        let faults: Vec<Fault> = declarations
            .iter()
            .flat_map(|one| {
                let webhook = webhooks::faults(connections, &one.org_id, &one.settings);
                let webhook = webhook.into_iter().map(|(_, cure)| ("webhook.connection", cure));
                let source = sources::fault(connections, &one.org_id, &one.settings);
                let source = source.map(|(place, cure)| (place, cure.to_owned()));
                webhook.chain(source).map(|(place, cure)| one.fault(place, &cure))
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::Faults(faults)) }
    }

    /// Declared deployments that the store has otherwise than memory: another
    /// node applied them, or they were stored and could not be read back.
    fn outdated(&self, stored: &Stored, difference: &Difference) -> Vec<uuid::Uuid> {
        let changed: HashSet<uuid::Uuid> = difference.ids().into_iter().collect();
        let directory = &self.engine.context().directory;
        let declared = stored
            .deployments
            .iter()
            .filter(|row| row.declared_in.is_some() || row.released_from.is_some());
        declared
            .filter(|row| !changed.contains(&row.id))
            .filter(|row| {
                let entry = directory.entry(row.id);
                entry.is_none_or(|entry| entry.revision.load().number != row.revision)
            })
            .map(|row| row.id)
            .collect()
    }

    /// Reads and checks every file; none if there is no folder.
    async fn read(&self) -> Result<Option<Vec<Arc<Declaration>>>, Problem> {
        let folder = self.folder.clone();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reading = tokio::task::spawn_blocking(move || read(&folder, &known));
        let ended = |_| Err(vec![Fault::of_folder("a step kind failed while it was built")]);
        let read = reading.await.unwrap_or_else(ended).map_err(Problem::Faults)?;
        Ok(read.map(|(known, declarations)| {
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
            declarations
        }))
    }

    fn log(&self, outcome: &Result<Difference, Problem>, dry_run: bool, time: Duration) {
        let milliseconds = time.as_millis().try_into().unwrap_or(u64::MAX);
        let folder = self.folder_name();
        match outcome {
            Ok(difference) if difference.is_empty() => {
                tracing::debug!(
                    dry_run,
                    unchanged = difference.unchanged,
                    "deployment files are in force"
                );
            }
            Ok(difference) => tracing::info!(
                dry_run,
                added = difference.added.len(),
                changed = difference.changed.len(),
                removed = difference.removed.len(),
                unchanged = difference.unchanged,
                milliseconds,
                "deployment files reloaded"
            ),
            Err(Problem::Faults(faults)) => {
                for fault in faults.iter().take(LOGGED) {
                    let reason = &fault.reason;
                    tracing::error!(place = %format_args!("{folder}/{fault}"), reason, "a deployment file cannot be used");
                }
                tracing::error!(
                    dry_run,
                    faults = faults.len(),
                    "deployment files not reloaded: the former state holds"
                );
            }
            Err(Problem::Store(error)) => {
                tracing::error!(dry_run, %error, "deployment files not reloaded: the store failed");
            }
        }
    }
}

type Read = Option<(Known, Vec<Arc<Declaration>>)>;

fn read(folder: &Path, known: &Known) -> Result<Read, Vec<Fault>> {
    let Some(sources) = files::read(folder)? else { return Ok(None) };
    let (mut checked, mut declarations) = (Known::new(), Vec::with_capacity(sources.len()));
    let mut faults = Vec::new();
    let mut told = Instant::now();
    for (index, portion) in sources.chunks(PORTION).enumerate() {
        for source in portion {
            let hash = blake3::hash(source.text.as_bytes());
            match check(source, hash, known) {
                Ok(declaration) => {
                    checked.insert(source.name.clone(), (hash, Arc::clone(&declaration)));
                    declarations.push(declaration);
                }
                Err(found) => faults.extend(found),
            }
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let done = (index + 1) * PORTION;
            tracing::info!(done, total = sources.len(), "checking deployment files");
        }
    }
    if faults.is_empty() { Ok(Some((checked, declarations))) } else { Err(faults) }
}

fn check(
    source: &Source,
    hash: blake3::Hash,
    known: &Known,
) -> Result<Arc<Declaration>, Vec<Fault>> {
    match known.get(&source.name) {
        Some((seen, declaration)) if *seen == hash => Ok(Arc::clone(declaration)),
        _ => Declaration::parse(source).map(Arc::new),
    }
}
