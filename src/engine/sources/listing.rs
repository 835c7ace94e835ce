//! Which files a run loads: those of the source that are new or changed.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use opendal::{Lister, Operator};
use uuid::{Builder, Uuid};

use super::confined::Confined;
use super::folder::Walk;
use super::gather::Unable;
use super::settings::{Order, Selection, Source, is_path};
use crate::clock;
use crate::engine::context::Context;
use crate::steps::SourceFile;
use crate::store::committer::FileRow;

/// Files that are compared with what is known of them at once.
const AT_ONCE: usize = 500;

/// A file that was changed less than so long ago may change again without its
/// time telling.
const RACY: TimeDelta = TimeDelta::seconds(2);

/// Bytes of an etag that is relied on.
const MAX_ETAG: usize = 255;

/// Where `write_object` keeps what it has not finished, in a folder.
const ASIDE: &str = ".millrace/";

/// A file as its store lists it.
#[derive(Debug)]
pub(super) struct Listed {
    /// Path in the connection.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// When it was changed, in microseconds since 1970.
    pub(super) modified: Option<i64>,
    /// The store's own name of the content.
    pub(super) etag: Option<String>,
}

/// What lists.
enum Listing {
    Store(Lister),
    Folder(Walk),
}

impl Listing {
    /// OpenDAL follows links in folders of this machine.
    async fn of(operator: &Operator, confined: &Confined, folder: &str) -> Result<Self, Unable> {
        if let Some(root) = confined.folder() {
            return Ok(Self::Folder(Walk::new(root, folder)));
        }
        let path = if folder.is_empty() { "/" } else { folder };
        let lister = operator.lister_with(path).recursive(true).await.map_err(Unable::of)?;
        Ok(Self::Store(lister))
    }

    async fn next(&mut self) -> Result<Option<Listed>, Unable> {
        let lister = match self {
            Self::Folder(walk) => return Ok(walk.next().await),
            Self::Store(lister) => lister,
        };
        while let Some(entry) = lister.try_next().await.map_err(Unable::of)? {
            let (path, metadata) = entry.into_parts();
            if metadata.is_file() {
                let modified = metadata.last_modified().map(SystemTime::from);
                return Ok(Some(Listed {
                    path,
                    size: metadata.content_length(),
                    modified: modified.map(|time| DateTime::<Utc>::from(time).timestamp_micros()),
                    etag: metadata.etag().map(ToOwned::to_owned),
                }));
            }
        }
        Ok(None)
    }

    fn passed_over(&self) -> usize {
        match self {
            Self::Store(_) => 0,
            Self::Folder(walk) => walk.passed_over,
        }
    }
}

/// A file that is to be loaded.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where it is, and how to tell that it changed.
    pub(super) file: SourceFile,
    /// Bytes, as the store says.
    pub(super) size: u64,
    /// What came of it before.
    pub(super) known: Option<FileRow>,
    /// When it was changed, however lately.
    modified: Option<i64>,
}

/// What a listing found.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The files to be loaded, in their order.
    pub(super) found: Vec<Found>,
    /// New and changed files beyond those that one run takes.
    pub(super) left: usize,
    /// Files whose path is none that can be kept, or that cannot be looked at.
    pub(super) passed_over: usize,
}

/// What comes first: files that cannot be what they were must not wait for
/// those that may be, or for those that fail each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    New,
    Doubtful,
    Failed,
}

impl Rank {
    fn of(found: &Found, changed_only: bool) -> Self {
        match &found.known {
            Some(known) if known.error.is_some() => Self::Failed,
            Some(known) if changed_only && is_size(found, known) => Self::Doubtful,
            _ => Self::New,
        }
    }
}

/// The files to be loaded so far, the first ones of them.
struct Picks<'a> {
    source: &'a Source,
    first: BTreeMap<(Rank, i64, String), Found>,
    left: usize,
}

impl Picks<'_> {
    fn add(&mut self, found: Found) {
        let rank = Rank::of(&found, self.source.changed_only);
        let order = match self.source.order {
            Order::Name => 0,
            Order::Modified => found.modified.unwrap_or(i64::MAX),
            Order::Size => i64::try_from(found.size).unwrap_or(i64::MAX),
        };
        self.first.insert((rank, order, found.file.path.clone()), found);
        if self.first.len() > self.source.max_files as usize {
            self.first.pop_last();
            self.left += 1;
        }
    }
}

/// Lists the source. Neither its files nor what is known of them need fit into
/// memory: only those that are loaded do.
pub(super) async fn list(
    context: &Context,
    operator: &Operator,
    confined: &Confined,
    source: &Source,
    workflow_id: Uuid,
) -> Result<Chosen, Unable> {
    let selection = source.selection().map_err(|_| Unable::unusable(&source.connection))?;
    let folder = source.folder();
    let mut listing = Listing::of(operator, confined, &folder).await?;
    let mut picks = Picks { source, first: BTreeMap::new(), left: 0 };
    let mut unnamed = 0;
    let mut some = Vec::with_capacity(AT_ONCE);
    while let Some(listed) = listing.next().await? {
        if !takes(&selection, &folder, &listed.path) {
            continue;
        }
        if !is_path(&listed.path) {
            unnamed += 1;
            continue;
        }
        some.push(found(&source.connection, listed));
        if some.len() == AT_ONCE {
            compare(context, workflow_id, std::mem::take(&mut some), &mut picks).await?;
        }
    }
    compare(context, workflow_id, some, &mut picks).await?;
    Ok(Chosen {
        found: picks.first.into_values().collect(),
        left: picks.left,
        passed_over: unnamed + listing.passed_over(),
    })
}

fn takes(selection: &Selection, folder: &str, path: &str) -> bool {
    let below = path.strip_prefix(folder);
    !path.starts_with(ASIDE) && below.is_some_and(|below| selection.takes(below))
}

fn found(connection: &str, listed: Listed) -> Found {
    let Listed { path, size, modified, etag } = listed;
    let old = (clock::now() - RACY).timestamp_micros();
    let is_storable = |etag: &String| etag.len() <= MAX_ETAG && !etag.contains(char::is_control);
    Found {
        file: SourceFile {
            connection: connection.to_owned(),
            path,
            modified_at: modified.filter(|modified| *modified < old),
            etag: etag.filter(is_storable),
        },
        size,
        known: None,
        modified,
    }
}

/// Takes those of the files that are new or changed, or whose last try failed.
async fn compare(
    context: &Context,
    workflow_id: Uuid,
    some: Vec<Found>,
    picks: &mut Picks<'_>,
) -> Result<(), Unable> {
    let ids = some.iter().map(|found| file_id(&found.file.connection, &found.file.path));
    let known = context.store.known_files(workflow_id, ids.clone().collect()).await;
    let known = known.map_err(|error| Unable::store(&error))?;
    let mut known: HashMap<Uuid, FileRow> = known.into_iter().map(|row| (row.id, row)).collect();
    let ids: Vec<Uuid> = ids.collect();
    for (mut found, id) in some.into_iter().zip(ids) {
        found.known = known.remove(&id);
        let is_old = found.known.as_ref().is_some_and(|known| is_unchanged(&found, known));
        if !is_old || !picks.source.changed_only {
            picks.add(found);
        }
    }
    Ok(())
}

/// Whether the store tells that the file is what succeeded before. Where it
/// cannot tell, the content has to.
fn is_unchanged(found: &Found, known: &FileRow) -> bool {
    let same = match (&found.file.etag, &known.etag) {
        (Some(etag), Some(known)) => etag == known,
        _ => found.file.modified_at.is_some() && found.file.modified_at == known.modified_at,
    };
    known.error.is_none() && is_size(found, known) && same
}

fn is_size(found: &Found, known: &FileRow) -> bool {
    i64::try_from(found.size).is_ok_and(|size| size == known.size)
}

/// The id of a file of a workflow.
pub(super) fn file_id(connection: &str, path: &str) -> Uuid {
    // A connection's name holds no blank.
    let hash = blake3::hash(format!("{connection} {path}").as_bytes());
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    Builder::from_custom_bytes(id).into_uuid()
}
