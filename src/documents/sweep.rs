//! Removal of bytes that nothing refers to.
//!
//! Why no bytes are removed that something refers to, or is about to: whoever
//! refers to bytes has first made sure that they are fresh (`Upload::finish`,
//! `put`, `refresh`), and has committed the reference well within the grace
//! after that. The sweeper first sets bytes aside under another name, *then*
//! looks how old they are, and *then* asks for references:
//!
//! - Bytes that were made fresh before they were set aside are found fresh,
//!   and are restored.
//! - Old bytes were last made fresh longer than the grace ago; whoever did so
//!   has committed by now, the reference is found, and they are restored.
//! - Bytes that are made fresh after they were set aside are new bytes under
//!   the first name, which nobody touches.
//!
//! Who takes a reference over from an execution whose row it keeps locked
//! until the commit need not make the bytes fresh: there is one all the time.
//!
//! Meanwhile bytes that are set aside can be read as before: a read looks
//! under both names. A sweep that is cut off leaves them there, for a later
//! one to decide.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use opendal::{Entry, ErrorKind, Lister, Metadata};

use super::Hash;
use super::store::{DocumentStore, StoreError, path_of};

const UPLOADS: &str = "uploads/";
const ASIDE: &str = "aside/";

/// Where bytes wait for the decision whether they are removed.
pub(super) fn aside_path(hash: Hash) -> String {
    format!("{ASIDE}{hash}")
}

/// What a walk came upon that is older than the grace.
#[derive(Debug, Default)]
pub struct Found {
    /// Bytes under their hash.
    pub documents: Vec<Hash>,
    /// Bytes that a sweep set aside and left there.
    pub aside: Vec<Hash>,
    /// Parts of uploads that nobody goes on with.
    pub uploads: Vec<String>,
}

/// A walk through everything that is stored, some entries at a time.
pub struct Walk(Lister);

impl Walk {
    /// What is older than `grace` of the next `most` entries; none at the end
    /// of the walk.
    ///
    /// # Errors
    /// The backend's; the walk is over then.
    pub async fn next(
        &mut self,
        most: usize,
        grace: Duration,
    ) -> Result<Option<Found>, StoreError> {
        let mut found = Found::default();
        for seen in 0..most {
            match self.0.next().await {
                Some(entry) => found.sort_in(&entry?, grace),
                None if seen == 0 => return Ok(None),
                None => break,
            }
        }
        Ok(Some(found))
    }
}

impl Found {
    fn sort_in(&mut self, entry: &Entry, grace: Duration) {
        let path = entry.path();
        if !entry.metadata().is_file() || !is_older(entry.metadata(), grace) {
            return;
        }
        let hash = path.rsplit('/').next().and_then(|name| name.parse().ok());
        match hash {
            _ if path.starts_with(UPLOADS) => self.uploads.push(path.to_owned()),
            Some(hash) if path == path_of(hash) => self.documents.push(hash),
            Some(hash) if path == aside_path(hash) => self.aside.push(hash),
            // Not ours.
            _ => {}
        }
    }
}

/// Whether this was last made fresh longer than `age` ago; false if the
/// backend does not tell.
pub(super) fn is_older(metadata: &Metadata, age: Duration) -> bool {
    let Some(modified) = metadata.last_modified() else { return false };
    // A time to come is no age.
    SystemTime::now().duration_since(modified.into()).is_ok_and(|since| since > age)
}

impl DocumentStore {
    /// Begins a walk. None where bytes cannot be renamed in one step: there
    /// nothing can be removed safely.
    ///
    /// # Errors
    /// The backend's.
    pub async fn walk(&self) -> Result<Option<Walk>, StoreError> {
        if !self.operator.info().capability().rename {
            return Ok(None);
        }
        Ok(Some(Walk(self.operator.lister_with("/").recursive(true).await?)))
    }

    /// Sets aside those of `hashes` that are older than `grace`; returns
    /// them.
    ///
    /// # Errors
    /// The backend's.
    pub async fn set_aside(
        &self,
        hashes: Vec<Hash>,
        grace: Duration,
    ) -> Result<Vec<Hash>, StoreError> {
        let mut aside = Vec::new();
        if !self.operator.info().capability().rename {
            return Ok(aside);
        }
        for hash in hashes {
            let path = path_of(hash);
            let Some(metadata) = there(self.operator.stat(&path).await)? else { continue };
            if is_older(&metadata, grace)
                && there(self.operator.rename(&path, &aside_path(hash)).await)?.is_some()
            {
                aside.push(hash);
            }
        }
        Ok(aside)
    }

    /// Restores those that are not older than `grace`; returns the others. To
    /// be asked before their references are.
    ///
    /// # Errors
    /// The backend's.
    pub async fn restore_fresh(
        &self,
        aside: Vec<Hash>,
        grace: Duration,
    ) -> Result<Vec<Hash>, StoreError> {
        let mut old = Vec::new();
        for hash in aside {
            match there(self.operator.stat(&aside_path(hash)).await)? {
                Some(metadata) if is_older(&metadata, grace) => old.push(hash),
                Some(_) => self.restore(hash).await?,
                None => {}
            }
        }
        Ok(old)
    }

    /// Makes bytes that are set aside readable under their hash again, as
    /// fresh ones: who made them fresh relies on the time that is left.
    ///
    /// # Errors
    /// The backend's.
    pub async fn restore(&self, hash: Hash) -> Result<(), StoreError> {
        // Where others have brought the same bytes meanwhile, theirs stay.
        if !self.operator.exists(&path_of(hash)).await? {
            self.rewrite(hash).await?;
        }
        Ok(self.operator.delete(&aside_path(hash)).await?)
    }

    /// Removes bytes that are set aside.
    ///
    /// # Errors
    /// The backend's.
    pub async fn discard(&self, hash: Hash) -> Result<(), StoreError> {
        Ok(self.operator.delete(&aside_path(hash)).await?)
    }

    /// Removes what an upload left behind.
    ///
    /// # Errors
    /// The backend's.
    pub async fn discard_upload(&self, path: &str) -> Result<(), StoreError> {
        Ok(self.operator.delete(path).await?)
    }

    /// Makes sure that the bytes stay for the time in which a reference must
    /// be committed.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or the backend's.
    pub async fn refresh(&self, hash: Hash) -> Result<(), StoreError> {
        if self.is_fresh(hash).await? { Ok(()) } else { self.rewrite(hash).await }
    }

    /// Writes the bytes anew: whole or not at all, and with a new age.
    async fn rewrite(&self, hash: Hash) -> Result<(), StoreError> {
        for path in places_of(hash) {
            if there(self.operator.stat(&path).await)?.is_some()
                && self.copy_from(&path).await? == Some(hash)
            {
                return Ok(());
            }
        }
        Err(StoreError::Missing(hash))
    }

    /// Stores what is at `path` under its hash, which is returned. None if it
    /// was moved away.
    async fn copy_from(&self, path: &str) -> Result<Option<Hash>, StoreError> {
        let mut pieces = self.operator.reader(path).await?.into_bytes_stream(..).await?;
        let mut upload = self.upload().await?;
        loop {
            let failed = match pieces.try_next().await {
                Ok(Some(piece)) => match upload.write(piece).await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Ok(None) => return Ok(Some(upload.finish().await?.hash)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    Err(opendal::Error::new(ErrorKind::Unexpected, error.to_string()).into())
                }
            };
            upload.abort().await;
            return failed;
        }
    }
}

/// Where bytes may be, in the order to look: what is restored between the
/// first look and the second is found by the third.
pub(super) fn places_of(hash: Hash) -> [String; 3] {
    [path_of(hash), aside_path(hash), path_of(hash)]
}

/// None of what is not there.
pub(super) fn there<T>(outcome: opendal::Result<T>) -> Result<Option<T>, StoreError> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use bytes::Bytes;

    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);
    const BYTES: Bytes = Bytes::from_static(b"millrace");

    fn open(folder: &Path) -> DocumentStore {
        DocumentStore::in_folder(folder.to_str().unwrap()).unwrap().swept_after(GRACE)
    }

    fn file(folder: &Path, path: &str) -> PathBuf {
        folder.join(path)
    }

    /// Makes a file as old as it would be after twice the grace.
    fn age(path: &Path) {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(SystemTime::now() - 2 * GRACE)
            .unwrap();
    }

    async fn old_bytes(folder: &Path) -> (DocumentStore, Hash) {
        let store = open(folder);
        let hash = store.put(BYTES).await.unwrap().hash;
        age(&file(folder, &path_of(hash)));
        (store, hash)
    }

    #[tokio::test]
    async fn fresh_bytes_are_not_set_aside_and_old_ones_can_be_read_until_they_are_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let (store, hash) = old_bytes(folder.path()).await;
        store.refresh(hash).await.unwrap();
        assert!(store.set_aside(vec![hash], GRACE).await.unwrap().is_empty());
        age(&file(folder.path(), &path_of(hash)));
        assert_eq!(store.set_aside(vec![hash], GRACE).await.unwrap(), [hash]);
        assert_eq!(store.read(hash, 100).await.unwrap(), BYTES);
        assert_eq!(store.restore_fresh(vec![hash], GRACE).await.unwrap(), [hash]);
        store.discard(hash).await.unwrap();
        assert!(matches!(store.read(hash, 100).await, Err(StoreError::Missing(_))));
        assert!(matches!(store.refresh(hash).await, Err(StoreError::Missing(_))));
    }

    #[tokio::test]
    async fn bytes_that_come_again_while_they_are_set_aside_survive_the_removal() {
        let folder = tempfile::tempdir().unwrap();
        let (store, hash) = old_bytes(folder.path()).await;
        store.set_aside(vec![hash], GRACE).await.unwrap();
        store.put(BYTES).await.unwrap();
        store.discard(hash).await.unwrap();
        assert_eq!(store.read(hash, 100).await.unwrap(), BYTES);
    }

    #[tokio::test]
    async fn bytes_that_were_made_fresh_just_before_they_were_set_aside_are_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (store, hash) = old_bytes(folder.path()).await;
        store.set_aside(vec![hash], GRACE).await.unwrap();
        // As if they had come between the look at their age and the renaming.
        let aside = File::options().write(true).open(file(folder.path(), &aside_path(hash)));
        aside.unwrap().set_modified(SystemTime::now()).unwrap();
        assert!(store.restore_fresh(vec![hash], GRACE).await.unwrap().is_empty());
        assert!(file(folder.path(), &path_of(hash)).exists());
        assert!(!file(folder.path(), &aside_path(hash)).exists());
        assert!(store.set_aside(vec![hash], GRACE).await.unwrap().is_empty(), "they are fresh");
    }

    #[tokio::test]
    async fn what_a_put_finds_is_used_while_it_is_fresh_and_written_anew_after() {
        let folder = tempfile::tempdir().unwrap();
        let (store, hash) = old_bytes(folder.path()).await;
        let path = file(folder.path(), &path_of(hash));
        store.put(BYTES).await.unwrap();
        let written = path.metadata().unwrap().modified().unwrap();
        assert!(written.elapsed().unwrap() < GRACE);
        store.put(BYTES).await.unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
    }

    #[tokio::test]
    async fn a_walk_comes_upon_everything_that_is_old_a_few_entries_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut old = Vec::new();
        for number in 0..20_u8 {
            let hash = store.put(Bytes::copy_from_slice(&[number])).await.unwrap().hash;
            if number % 2 == 0 {
                age(&file(folder.path(), &path_of(hash)));
                old.push(hash.to_string());
            }
        }
        let part = file(folder.path(), "uploads/part");
        std::fs::write(&part, "half").unwrap();
        age(&part);
        let foreign = file(folder.path(), "notes.txt");
        std::fs::write(&foreign, "not ours").unwrap();
        age(&foreign);
        let mut walk = store.walk().await.unwrap().unwrap();
        let (mut found, mut steps) = (Found::default(), 0);
        while let Some(some) = walk.next(7, GRACE).await.unwrap() {
            assert!(some.documents.len() <= 7);
            found.documents.extend(some.documents);
            found.uploads.extend(some.uploads);
            steps += 1;
        }
        let mut documents: Vec<_> = found.documents.iter().map(ToString::to_string).collect();
        documents.sort_unstable();
        old.sort_unstable();
        assert_eq!(documents, old);
        assert_eq!(found.uploads, ["uploads/part"]);
        assert!(steps > 5, "{steps}");
    }
}
