//! What is remembered of the files of a source.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::listing::file_id;
use crate::clock;
use crate::documents::Hash;
use crate::steps::{DocumentRef, SourceFile, StepError};
use crate::store::committer::FileRow;

/// Characters of an error's code that are kept.
const MAX_CODE: usize = 64;

/// A file of which it is known that it cannot be loaded.
pub(super) fn unloaded(
    workflow_id: Uuid,
    execution_id: Uuid,
    file: &SourceFile,
    size: u64,
    code: &str,
) -> FileRow {
    FileRow {
        workflow_id,
        id: file_id(&file.connection, &file.path),
        connection: file.connection.clone(),
        path: file.path.clone(),
        hash: None,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        modified_at: file.modified_at,
        etag: file.etag.clone(),
        error: Some(code.chars().take(MAX_CODE).collect()),
        execution_id,
        processed_at: clock::now(),
    }
}

/// A file whose content is what it was, though its store could not tell.
pub(super) fn seen_again(known: &FileRow, file: &SourceFile, size: u64) -> FileRow {
    FileRow {
        size: i64::try_from(size).unwrap_or(i64::MAX),
        modified_at: file.modified_at,
        etag: file.etag.clone(),
        ..known.clone()
    }
}

/// The files of one execution's documents, and what has come of them: however
/// the execution ends, what succeeded is not processed again.
#[derive(Debug, Default)]
pub(in crate::engine) struct Files {
    files: Vec<(SourceFile, Hash, u64)>,
    ended: Mutex<BTreeMap<usize, Option<String>>>,
}

impl Files {
    /// Those of the documents; none unless a source has them all.
    pub(in crate::engine) fn of(documents: &[DocumentRef]) -> Self {
        let of_one = |one: &DocumentRef| Some((one.source.clone()?, one.hash, one.size));
        let files: Option<Vec<_>> = documents.iter().map(of_one).collect();
        Self { files: files.unwrap_or_default(), ended: Mutex::default() }
    }

    /// A document ended so. What was interrupted did not.
    pub(in crate::engine) fn end(&self, document: usize, output: &Result<Value, StepError>) {
        let error = output.as_ref().err().map(|error| error.code.to_string());
        if self.files.is_empty() || error.as_deref() == Some(&*StepError::cancelled().code) {
            return;
        }
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(document, error);
    }

    /// What is to be recorded with the end.
    pub(in crate::engine) fn rows(&self, workflow_id: Uuid, execution_id: Uuid) -> Vec<FileRow> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = |(document, error): (&usize, &Option<String>)| {
            let (file, hash, size) = self.files.get(*document)?;
            let code = error.as_deref().unwrap_or_default();
            let row = unloaded(workflow_id, execution_id, file, *size, code);
            let error = error.as_ref().and(row.error);
            Some(FileRow { hash: Some(hash.to_string()), error, ..row })
        };
        ended.iter().filter_map(of_one).collect()
    }
}
