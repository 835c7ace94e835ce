//! How much one document may hold, whatever its size says: what is unpacked is
//! often a thousand times as large as what was sent. All numbers are here.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io::Read;

use super::failure;
use crate::sandbox::JobError;

/// Most containers around a document, such as mails attached to mails.
const MAX_DEPTH: u32 = 16;
/// Most files of archives, streams of compound files and attachments, in sum.
const MAX_PARTS: usize = 10_000;
/// Most bytes that one of them unpacks to.
const MAX_PART: u64 = 256 << 20;
/// Most bytes that all of them unpack to.
const MAX_UNPACKED: u64 = 512 << 20;
/// Beyond this many bytes, what is unpacked may be at most so many times as
/// large as the document. Sheets of equal cells reach 100 times.
const RATIO_FROM: u64 = 64 << 20;
const MAX_RATIO: u64 = 200;
/// Most elements that stand in each other.
pub(super) const MAX_NESTING: usize = 10_000;
/// Largest markup in bytes that another format is written as.
pub(super) const MAX_MARKUP: usize = 256 << 20;

/// What a document, with all that it holds, has used of its bounds.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Bytes of the document as it was sent.
    size: u64,
    parts: Cell<usize>,
    unpacked: Cell<u64>,
}

impl Bounds {
    /// Those of a document that was sent as `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, parts: Cell::default(), unpacked: Cell::default() }
    }

    /// Counts parts of a container.
    ///
    /// # Errors
    /// `document_too_large` if there are too many.
    pub(super) fn add_parts(&self, count: usize) -> Result<(), JobError> {
        self.parts.set(self.parts.get().saturating_add(count));
        match self.parts.get() <= MAX_PARTS {
            true => Ok(()),
            false => Err(failure::too_large(&format!("holds more than {MAX_PARTS} parts"))),
        }
    }

    /// Whether a part may unpack to `size` bytes.
    ///
    /// # Errors
    /// `document_too_large` if not.
    pub(super) fn check(&self, size: u64) -> Result<(), JobError> {
        let total = self.unpacked.get().saturating_add(size);
        let mib = |bytes: u64| bytes >> 20;
        if size > MAX_PART {
            let what = format!("holds a part of more than {} MiB unpacked", mib(MAX_PART));
            Err(failure::too_large(&what))
        } else if total > MAX_UNPACKED {
            let what = format!("unpacks to more than {} MiB", mib(MAX_UNPACKED));
            Err(failure::too_large(&what))
        } else if total > RATIO_FROM.max(self.size.saturating_mul(MAX_RATIO)) {
            let what = format!("unpacks to more than {MAX_RATIO} times its size");
            Err(failure::too_large(&what))
        } else {
            Ok(())
        }
    }

    /// Counts a part that unpacked to `size` bytes.
    ///
    /// # Errors
    /// See [`Self::check`].
    pub(super) fn add(&self, size: u64) -> Result<(), JobError> {
        self.check(size)?;
        self.unpacked.set(self.unpacked.get() + size);
        Ok(())
    }

    /// All bytes of a part; none if it cannot be unpacked. What it says of its
    /// own size counts for nothing.
    ///
    /// # Errors
    /// `document_too_large` if they are too many.
    pub(super) fn read(&self, part: impl Read) -> Result<Option<Vec<u8>>, JobError> {
        let mut bytes = Vec::new();
        let read = part.take(MAX_PART + 1).read_to_end(&mut bytes);
        self.add(bytes.len() as u64)?;
        Ok(read.is_ok().then_some(bytes))
    }
}

/// Where a document stands: in how many others, and in whose bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside<'a> {
    pub(super) bounds: &'a Bounds,
    depth: u32,
}

impl<'a> Inside<'a> {
    /// In no other document.
    pub(super) fn nothing(bounds: &'a Bounds) -> Self {
        Self { bounds, depth: 0 }
    }

    /// One container further in, as one of its parts.
    ///
    /// # Errors
    /// `document_too_large` if that is too far, or one part too many.
    pub(super) fn deeper(self) -> Result<Self, JobError> {
        self.bounds.add_parts(1)?;
        let depth = self.depth + 1;
        match depth <= MAX_DEPTH {
            true => Ok(Self { depth, ..self }),
            false => Err(failure::too_large(&format!(
                "holds documents in each other, more than {MAX_DEPTH} deep"
            ))),
        }
    }
}
