//! Reading files out of ZIP archives, within bounds.

use std::io::{Cursor, Read, copy, sink};

use zip::ZipArchive;
use zip::result::ZipError;

use super::bounds::Bounds;
use super::failure;
use crate::sandbox::JobError;

/// A ZIP archive in memory.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    bounds: &'a Bounds,
}

impl<'a> Archive<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// `document_malformed` if the directory cannot be read,
    /// `document_too_large` if it lists too much.
    pub(super) fn open(bytes: &'a [u8], bounds: &'a Bounds) -> Result<Self, JobError> {
        let Ok(zip) = ZipArchive::new(Cursor::new(bytes)) else {
            return Err(failure::malformed("ZIP archive"));
        };
        bounds.add_parts(zip.len())?;
        Ok(Self { zip, bounds })
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// Whether there is a file below that folder.
    pub(super) fn has_folder(&self, folder: &str) -> bool {
        self.zip.file_names().flatten().any(|name| name.starts_with(folder))
    }

    /// The bytes of a file; none if it is not there.
    ///
    /// # Errors
    /// `document_encrypted`, `document_malformed` if it cannot be unpacked, or
    /// `document_too_large` if it unpacks to too much.
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
        match self.bounds.read(file)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(failure::malformed("ZIP archive")),
        }
    }

    /// Unpacks everything to nowhere, before a parser that keeps no bounds gets
    /// the archive. What cannot be unpacked is that parser's to judge.
    ///
    /// # Errors
    /// `document_too_large` if it unpacks to too much.
    pub(super) fn check(&mut self) -> Result<(), JobError> {
        for index in 0..self.zip.len() {
            let Ok(mut file) = self.zip.by_index(index) else { continue };
            let mut size = 0;
            let mut piece = file.by_ref().take(PIECE);
            while let Ok(more @ 1..) = copy(&mut piece, &mut sink()) {
                size += more;
                self.bounds.check(size)?;
                piece.set_limit(PIECE);
            }
            self.bounds.add(size)?;
        }
        Ok(())
    }
}

/// Bytes that are unpacked between two looks at the bounds.
const PIECE: u64 = 1 << 20;
