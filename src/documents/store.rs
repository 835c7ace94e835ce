//! Content-addressed store of document bytes and large step outputs, over
//! OpenDAL.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Operator, Writer};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Hash;
use super::sweep::{is_older, places_of, there};
use crate::faults;

/// Why the store could not do it. The text is for logs only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not there.
    #[error("no document {0}")]
    Missing(Hash),
    /// More bytes than the caller allowed.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// The store is away or full.
    #[error("document store: {0}")]
    Backend(#[from] opendal::Error),
}

/// Bytes under their blake3 hash. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DocumentStore {
    pub(super) operator: Operator,
    fresh: Duration,
}

/// What is known of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Content address.
    pub hash: Hash,
    /// Bytes.
    pub size: u64,
}

impl DocumentStore {
    /// A store over any OpenDAL service; its calls are retried and limited in
    /// time.
    pub fn new(operator: Operator) -> Self {
        let operator =
            operator.layer(TimeoutLayer::new()).layer(RetryLayer::new().with_max_times(3));
        Self { operator, fresh: Duration::ZERO }
    }

    /// A store that is swept: bytes that nothing refers to are removed once
    /// they are older than `grace`. For the first quarter of it they count as
    /// fresh, so that three quarters are left for the commit of a reference.
    #[must_use]
    pub fn swept_after(mut self, grace: Duration) -> Self {
        self.fresh = grace / 4;
        self
    }

    /// A store in a local folder, which is made if it is missing.
    ///
    /// # Errors
    /// If OpenDAL cannot use the folder.
    pub fn in_folder(root: &str) -> Result<Self, StoreError> {
        let service = opendal::services::Fs::default().root(root);
        Ok(Self::new(Operator::new(service)?))
    }

    /// Starts to take bytes whose hash is known only at their end.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn upload(&self) -> Result<Upload, StoreError> {
        let operator = self.operator.clone();
        // A task of its own: if the request goes away while the file is being
        // made, the task drops the upload, and that removes the file.
        let opening = tokio::spawn(async move {
            let path = format!("uploads/{}", Uuid::now_v7());
            let writer = Some(operator.writer(&path).await?);
            Ok(Upload { operator, path, writer, hasher: blake3::Hasher::new(), size: 0 })
        });
        opening.await.unwrap_or_else(|_| {
            let interrupted = opendal::Error::new(opendal::ErrorKind::Unexpected, "interrupted");
            Err(StoreError::Backend(interrupted))
        })
    }

    /// Stores bytes that are in memory already. They appear under their hash
    /// whole or not at all. Bytes that are there and fresh are not written
    /// again.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn put(&self, bytes: Bytes) -> Result<Stored, StoreError> {
        let hash = Hash::from(blake3::hash(&bytes));
        let size = bytes.len() as u64;
        if self.is_fresh(hash).await? {
            return Ok(Stored { hash, size });
        }
        let mut upload = self.upload().await?;
        upload.write(bytes).await?;
        upload.finish().await
    }

    /// Reads all bytes of `hash`, refusing more than `limit`.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::TooLarge`] or the backend's.
    pub async fn read(&self, hash: Hash, limit: u64) -> Result<Bytes, StoreError> {
        for path in places_of(hash) {
            let Some(metadata) = there(self.operator.stat(&path).await)? else { continue };
            if metadata.content_length() > limit {
                return Err(StoreError::TooLarge(limit));
            }
            if let Some(bytes) = there(self.operator.read(&path).await)? {
                return Ok(bytes.to_bytes());
            }
        }
        Err(StoreError::Missing(hash))
    }

    /// Whether the bytes are there, and were brought lately.
    pub(super) async fn is_fresh(&self, hash: Hash) -> Result<bool, StoreError> {
        let metadata = there(self.operator.stat(&path_of(hash)).await)?;
        Ok(metadata.is_some_and(|metadata| !is_older(&metadata, self.fresh)))
    }

    /// Reads some of the bytes of `hash`. The range lies within them.
    ///
    /// # Errors
    /// The backend's.
    pub async fn read_range(&self, hash: Hash, range: Range<u64>) -> Result<Bytes, StoreError> {
        Ok(self.operator.read_with(&path_of(hash)).range(range).await?.to_bytes())
    }

    /// Fails if the store cannot be reached.
    ///
    /// # Errors
    /// The backend's.
    pub async fn check(&self) -> Result<(), StoreError> {
        Ok(self.operator.check().await?)
    }
}

/// Bytes on their way into the store. Nothing of it can be read until
/// [`Upload::finish`]; if that is not reached, what arrived is removed.
pub struct Upload {
    operator: Operator,
    path: String,
    /// None once nothing is left to be removed.
    writer: Option<Writer>,
    hasher: blake3::Hasher,
    size: u64,
}

impl Upload {
    /// Adds a piece.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&piece);
        self.size += piece.len() as u64;
        if let Some(writer) = &mut self.writer {
            writer.write(piece).await?;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the bytes durable and readable under their hash.
    ///
    /// The bytes are flushed before the rename, and the commit that refers to
    /// them comes after it, so no committed row names missing bytes.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn finish(mut self) -> Result<Stored, StoreError> {
        if let Some(writer) = &mut self.writer {
            writer.close().await?;
        }
        let hash = Hash::from(self.hasher.finalize());
        let path = path_of(hash);
        if self.operator.info().capability().rename {
            self.operator.rename(&self.path, &path).await?;
        } else {
            self.operator.copy(&self.path, &path).await?;
            self.operator.delete(&self.path).await?;
        }
        self.writer = None;
        faults::at(faults::DOCUMENT_AFTER_RENAME).await.map_err(opendal::Error::from)?;
        Ok(Stored { hash, size: self.size })
    }

    /// Gives the upload up and removes what arrived.
    pub async fn abort(mut self) {
        if let Some(removal) = self.removal() {
            removal.await;
        }
    }

    fn removal(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let mut writer = self.writer.take()?;
        let (operator, path) = (self.operator.clone(), std::mem::take(&mut self.path));
        Some(async move {
            let aborted = writer.abort().await;
            let deleted = operator.delete(&path).await;
            if let Err(error) = aborted.and(deleted) {
                tracing::debug!(%error, "an abandoned upload is left for the sweeper");
            }
        })
    }
}

impl Drop for Upload {
    /// The request went away in the middle.
    fn drop(&mut self) {
        if let (Some(removal), Ok(runtime)) = (self.removal(), Handle::try_current()) {
            runtime.spawn(removal);
        }
    }
}

/// Two levels of folders keep each folder small.
pub(super) fn path_of(hash: Hash) -> String {
    let name = hash.to_string();
    let (first, rest) = name.split_at(2);
    let (second, _) = rest.split_at(2);
    format!("documents/{first}/{second}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_uploaded_in_pieces_is_read_back_whole_under_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let store = DocumentStore::in_folder(folder.path().to_str().unwrap()).unwrap();
        let mut upload = store.upload().await.unwrap();
        upload.write(Bytes::from_static(b"mill")).await.unwrap();
        upload.write(Bytes::from_static(b"race")).await.unwrap();
        let stored = upload.finish().await.unwrap();
        assert_eq!(stored.hash, Hash::from(blake3::hash(b"millrace")));
        assert_eq!(stored.size, 8);
        assert_eq!(store.read(stored.hash, 8).await.unwrap(), "millrace");
        assert!(matches!(store.read(stored.hash, 7).await, Err(StoreError::TooLarge(7))));
        let unknown = Hash::from(blake3::hash(b"other"));
        assert!(matches!(store.read(unknown, 8).await, Err(StoreError::Missing(_))));
    }

    #[tokio::test]
    async fn an_aborted_upload_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = DocumentStore::in_folder(folder.path().to_str().unwrap()).unwrap();
        let mut upload = store.upload().await.unwrap();
        upload.write(Bytes::from_static(b"half")).await.unwrap();
        upload.abort().await;
        let left = std::fs::read_dir(folder.path().join("uploads")).unwrap().count();
        assert_eq!(left, 0);
    }
}
