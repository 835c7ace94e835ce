//! One file of a source on its way into the document store.

use futures_util::TryStreamExt;
use opendal::{ErrorKind, Operator};
use uuid::Uuid;

use super::confined::Confined;
use super::gather::Unable;
use super::history;
use super::listing::Found;
use super::settings::Source;
use crate::documents::media_type;
use crate::documents::store::{StoreError, Stored, Upload};
use crate::documents::text::Options;
use crate::engine::context::Context;
use crate::engine::settings::Settings;
use crate::steps::DocumentRef;
use crate::store::committer::FileRow;

/// Characters of a document's name that are kept.
const MAX_NAME: usize = 255;

/// What came of a file.
#[derive(Debug)]
pub(super) enum Loaded {
    /// It is new or changed.
    Document(DocumentRef),
    /// Its content is what succeeded before.
    Same(FileRow),
    /// The deployment does not take it.
    Refused(FileRow),
    /// It cannot be read.
    Unread(FileRow),
    /// It is there no more.
    Gone,
}

/// Why a file does not become a document.
enum Fault {
    Refused(&'static str),
    Unread,
    Gone,
    Documents(StoreError),
}

/// What all files of a run share.
pub(super) struct Loader<'a> {
    pub(super) context: &'a Context,
    pub(super) operator: Operator,
    pub(super) confined: Confined,
    pub(super) source: &'a Source,
    pub(super) settings: &'a Settings,
    pub(super) workflow_id: Uuid,
    pub(super) execution_id: Uuid,
}

impl Loader<'_> {
    /// Loads a file.
    ///
    /// # Errors
    /// If the document store takes nothing: then no file can be loaded.
    pub(super) async fn load(&self, found: Found) -> Result<Loaded, Unable> {
        let stored = match self.store(&found).await {
            Ok(stored) => stored,
            Err(Fault::Refused(code)) => return Ok(Loaded::Refused(self.failed(&found, code))),
            Err(Fault::Unread) => {
                return Ok(Loaded::Unread(self.failed(&found, "source_file_unreadable")));
            }
            Err(Fault::Gone) => return Ok(Loaded::Gone),
            Err(Fault::Documents(error)) => return Err(Unable::documents(&error)),
        };
        let hash = stored.hash.to_string();
        let succeeded = found.known.as_ref().filter(|known| known.error.is_none());
        match succeeded.filter(|known| known.hash.as_ref() == Some(&hash)) {
            Some(known) if self.source.changed_only => {
                Ok(Loaded::Same(history::seen_again(known, &found.file, stored.size)))
            }
            _ => Ok(Loaded::Document(DocumentRef {
                id: Uuid::now_v7(),
                name: name_of(&found.file.path),
                hash: stored.hash,
                size: stored.size,
                mime_type: None,
                source: Some(found.file),
            })),
        }
    }

    fn failed(&self, found: &Found, code: &'static str) -> FileRow {
        history::unloaded(self.workflow_id, self.execution_id, &found.file, found.size, code)
    }

    async fn store(&self, found: &Found) -> Result<Stored, Fault> {
        let limit = self.settings.max_file_bytes.min(self.source.max_bytes);
        if found.size > limit {
            return Err(Fault::Refused("document_too_large"));
        }
        if !self.confined.holds(&found.file.path).await {
            return Err(Fault::Refused("source_file_outside"));
        }
        let upload = self.context.services.documents.upload().await.map_err(Fault::Documents)?;
        let upload = self.copy(&found.file.path, upload, limit).await?;
        let stored = upload.finish().await.map_err(Fault::Documents)?;
        self.check_type(&found.file.path, stored).await?;
        Ok(stored)
    }

    /// Copies piece by piece: a file may be larger than it was listed with, or
    /// grow all the time.
    async fn copy(&self, path: &str, mut upload: Upload, limit: u64) -> Result<Upload, Fault> {
        let copied = async {
            let reader = self.operator.reader(path).await.map_err(unread)?;
            let mut pieces = reader.into_bytes_stream(..).await.map_err(unread)?;
            while let Some(piece) = pieces.try_next().await.map_err(|error| of_io(&error))? {
                if upload.size() + piece.len() as u64 > limit {
                    return Err(Fault::Refused("document_too_large"));
                }
                upload.write(piece).await.map_err(Fault::Documents)?;
            }
            Ok(())
        };
        match copied.await {
            Ok(()) => Ok(upload),
            Err(fault) => {
                upload.abort().await;
                Err(fault)
            }
        }
    }

    async fn check_type(&self, path: &str, stored: Stored) -> Result<(), Fault> {
        let Some(allowed) = &self.settings.allowed_mime_types else { return Ok(()) };
        let options = Options { name: Some(name_of(path)), ..Options::default() };
        let documents = &self.context.services.documents;
        let found = media_type::of(documents, stored, options).await.map_err(Fault::Documents)?;
        match allowed.iter().any(|pattern| media_type::fits(found, pattern)) {
            true => Ok(()),
            false => Err(Fault::Refused("unsupported_document")),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unread(error: opendal::Error) -> Fault {
    of_kind(error.kind())
}

fn of_io(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Gone,
        _ => Fault::Unread,
    }
}

fn of_kind(kind: ErrorKind) -> Fault {
    // What is a folder now is no file any more.
    match kind {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => Fault::Gone,
        _ => Fault::Unread,
    }
}

/// What stands after the last slash. Paths that are loaded have no control
/// characters.
fn name_of(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default().trim();
    if last.is_empty() { "document".into() } else { last.chars().take(MAX_NAME).collect() }
}
