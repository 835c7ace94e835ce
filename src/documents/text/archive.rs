//! Reading files out of ZIP archives, within bounds.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::failure;
use crate::sandbox::JobError;

/// Most bytes that one file of an archive may unpack to.
const MAX_FILE: u64 = 256 << 20;

/// A ZIP archive in memory.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
}

impl<'a> Archive<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// `document_malformed` if the directory cannot be read.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, JobError> {
        match ZipArchive::new(Cursor::new(bytes)) {
            Ok(zip) => Ok(Self { zip }),
            Err(_) => Err(failure::malformed("ZIP archive")),
        }
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// Whether there is a file below that folder.
    pub(super) fn has_folder(&self, folder: &str) -> bool {
        self.zip.file_names().flatten().any(|name| name.starts_with(folder))
    }

    /// The bytes of a file, up to the bound; none if it is not there.
    ///
    /// # Errors
    /// `document_encrypted`, or `document_malformed` if it cannot be unpacked
    /// or unpacks to too much.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, JobError> {
        let file = match self.zip.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(
                ZipError::InvalidPassword
                | ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED),
            ) => return Err(failure::encrypted()),
            Err(_) => return Err(failure::malformed("ZIP archive")),
        };
        let mut bytes = Vec::new();
        match file.take(MAX_FILE + 1).read_to_end(&mut bytes) {
            Ok(size) if size as u64 <= MAX_FILE => Ok(Some(bytes)),
            _ => Err(failure::malformed("ZIP archive")),
        }
    }
}
