//! When to reload: a change in the folder, or being asked.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Declarations;
use super::outcome::Problem;
use crate::engine::audit::Author;

/// Between looks at whether the folder is there and still the one watched.
const LOOK: Duration = Duration::from_secs(1);

/// Changes that never pause are not waited for longer than that.
const LONGEST_SETTLE: Duration = Duration::from_secs(5);

/// The wait before a reload is tried again while the store is away.
const RETRY: Duration = Duration::from_secs(2);

/// The task that reloads. Dropping it ends it; a reload that it began goes on
/// to its end.
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watching {
    /// Reloads whenever it is asked to, and when the folder changes if
    /// `watch` is set: after `settle` without a further change, so that what
    /// is being written is whole.
    pub fn start(declarations: Arc<Declarations>, watch: bool, settle: Duration) -> Self {
        let work = declarations.engine.context().work.clone();
        Self(work.spawn(async move {
            if watch {
                tokio::join!(reload(&declarations, settle), follow(&declarations));
            } else {
                reload(&declarations, settle).await;
            }
        }))
    }
}

async fn reload(declarations: &Arc<Declarations>, settle: Duration) {
    loop {
        declarations.asked.notified().await;
        let first = Instant::now();
        while first.elapsed() < LONGEST_SETTLE
            && timeout(settle, declarations.asked.notified()).await.is_ok()
        {}
        if let Err(Problem::Store(_)) = declarations.reload(Author::files(), false).await {
            // Nobody changes the files again for the sake of the store.
            tokio::time::sleep(RETRY).await;
            declarations.ask();
        }
    }
}

/// The system watches a folder, not a name: one that is made later or put in
/// another's place has to be looked for.
async fn follow(declarations: &Arc<Declarations>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    let mut watcher = None;
    loop {
        looks.tick().await;
        let folder = declarations.folder.clone();
        let found = tokio::task::spawn_blocking(move || identity(&folder)).await.ok().flatten();
        if seen == found {
            continue;
        }
        // The former one goes first: it may watch the same path.
        drop(watcher.take());
        if let Some((path, ..)) = &found {
            watcher = watch(declarations, path)
                .inspect_err(|error| tracing::warn!(%error, "deployment files are not watched"))
                .ok();
        }
        seen = found;
        // What happened before it was watched.
        declarations.ask();
    }
}

/// Which folder the name leads to now.
fn identity(folder: &Path) -> Option<(PathBuf, u64, u64)> {
    let path = folder.canonicalize().ok()?;
    let metadata = path.metadata().ok().filter(Metadata::is_dir)?;
    Some((path, metadata.dev(), metadata.ino()))
}

fn watch(declarations: &Arc<Declarations>, path: &Path) -> notify::Result<RecommendedWatcher> {
    let declarations = Arc::downgrade(declarations);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading the files is no change of them.
        if event.is_ok_and(|event| is_looked_at(event.kind)) {
            return;
        }
        if let Some(declarations) = declarations.upgrade() {
            declarations.ask();
        }
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_looked_at(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
