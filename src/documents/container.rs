//! What lies in a ZIP archive or a compound file, from the few pieces of a
//! stored document that say so. The crates that unpack them want all bytes in
//! memory, or a file that blocks; a listing of hundreds of megabytes must cost
//! neither.

use std::collections::HashMap;

use bytes::Bytes;

use super::store::{DocumentStore, StoreError, Stored};

/// Most bytes of a directory that are read.
const MAX_DIRECTORY: u64 = 1 << 20;

/// Most sectors of a compound file's directory that are read.
const MAX_SECTORS: usize = 256;

/// End of a ZIP archive without and with the longest comment
/// (APPNOTE 4.3.16).
const ZIP_END: usize = 22;
const ZIP_TAIL: u64 = 22 + 65_535;

/// Size of an entry in a compound file's directory ([MS-CFB] 2.6.1).
const ENTRY: usize = 128;

/// A stored document that is read in pieces.
pub(super) struct Pieces<'a> {
    pub(super) store: &'a DocumentStore,
    pub(super) stored: Stored,
}

impl Pieces<'_> {
    /// At most `length` bytes from `start` on; fewer at the end.
    pub(super) async fn read(&self, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let end = start.saturating_add(length).min(self.stored.size);
        match start < end {
            true => self.store.read_range(self.stored.hash, start..end).await,
            false => Ok(Bytes::new()),
        }
    }
}

/// Names of the files in a ZIP archive; none if it has no directory that can
/// be read.
pub(super) async fn zip_names(pieces: &Pieces<'_>) -> Result<Vec<String>, StoreError> {
    let tail_start = pieces.stored.size.saturating_sub(ZIP_TAIL);
    let tail = pieces.read(tail_start, ZIP_TAIL).await?;
    let Some(end) = tail.windows(ZIP_END).rposition(|bytes| bytes.starts_with(b"PK\x05\x06"))
    else {
        return Ok(Vec::new());
    };
    let size = u64::from(u32_at(&tail, end + 12).unwrap_or_default());
    let told = u64::from(u32_at(&tail, end + 16).unwrap_or_default());
    // Bytes before the archive move it from the place that it tells.
    let found = (tail_start + end as u64).saturating_sub(size);
    for start in [told, found] {
        let names = names_in(&pieces.read(start, size.min(MAX_DIRECTORY)).await?);
        if !names.is_empty() {
            return Ok(names);
        }
    }
    Ok(Vec::new())
}

/// The names in a central directory (APPNOTE 4.3.12), up to the first record
/// that is none.
fn names_in(mut directory: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while directory.starts_with(b"PK\x01\x02") {
        let length = |offset| u16_at(directory, offset).map_or(0, usize::from);
        let (name, rest) = (length(28), length(30) + length(32));
        let Some(bytes) = directory.get(46..46 + name) else { break };
        names.push(String::from_utf8_lossy(bytes).into_owned());
        directory = directory.get(46 + name + rest..).unwrap_or_default();
    }
    names
}

/// The content of a ZIP archive's first file if it is named `mimetype` and not
/// packed, as OpenDocument and EPUB want it.
pub(super) fn declared_type(head: &[u8]) -> Option<&str> {
    let is_stored = u16_at(head, 8)? == 0;
    let name = usize::from(u16_at(head, 26)?);
    let content = 30 + name + usize::from(u16_at(head, 28)?);
    let size = usize::try_from(u32_at(head, 18)?).ok()?;
    let is_named = head.get(30..30 + name)? == b"mimetype";
    let bytes = head.get(content..content.checked_add(size)?)?;
    if is_stored && is_named { std::str::from_utf8(bytes).ok() } else { None }
}

/// Names of the streams and storages directly in the root of a compound file
/// ([MS-CFB] 2.2 and 2.6); none if its directory cannot be read.
pub(super) async fn compound_names(
    head: &[u8],
    pieces: &Pieces<'_>,
) -> Result<Vec<String>, StoreError> {
    let shift = u16_at(head, 30).unwrap_or_default();
    if ![9, 12].contains(&shift) {
        return Ok(Vec::new());
    }
    let sector_size = 1_u64 << shift;
    let place = |sector: u32| (u64::from(sector) + 1) * sector_size;
    let per_sector = u32::try_from(sector_size / 4).unwrap_or(u32::MAX);
    let mut allocation = HashMap::new();
    let mut entries = Vec::new();
    let mut sector = u32_at(head, 48).unwrap_or(u32::MAX);
    for _ in 0..MAX_SECTORS {
        let bytes = pieces.read(place(sector), sector_size).await?;
        if bytes.is_empty() {
            break;
        }
        entries.extend(bytes.chunks_exact(ENTRY).map(Entry::read));
        // Where the allocation table tells the sector after this one. Files
        // whose table has more parts than the header lists end here.
        let part = (sector / per_sector) as usize;
        let Some(table) = u32_at(head, 76 + 4 * part).filter(|_| part < 109) else { break };
        let links = match allocation.get(&table) {
            Some(links) => Bytes::clone(links),
            None => pieces.read(place(table), sector_size).await?,
        };
        sector = u32_at(&links, (sector % per_sector) as usize * 4).unwrap_or(u32::MAX);
        allocation.insert(table, links);
    }
    Ok(in_root(&entries))
}

/// An entry of a compound file's directory.
struct Entry {
    name: String,
    left: u32,
    right: u32,
    child: u32,
}

impl Entry {
    fn read(bytes: &[u8]) -> Self {
        let size = usize::from(u16_at(bytes, 64).unwrap_or_default()).min(64);
        let units = (0..size / 2).filter_map(|index| u16_at(bytes, 2 * index));
        let name = char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}'));
        let link = |offset| u32_at(bytes, offset).unwrap_or(u32::MAX);
        Self {
            name: name.filter(|letter| *letter != '\0').collect(),
            left: link(68),
            right: link(72),
            child: link(76),
        }
    }
}

/// The names in the tree of the first entry, which is the root. A tree that
/// bites its tail is left after as many steps as there are entries.
fn in_root(entries: &[Entry]) -> Vec<String> {
    let mut names = Vec::new();
    let mut ahead: Vec<u32> = entries.first().map(|root| root.child).into_iter().collect();
    while let Some(entry) = ahead.pop().and_then(|link| entries.get(link as usize)) {
        if names.len() == entries.len() {
            break;
        }
        names.push(entry.name.clone());
        let exists = |link: &u32| (*link as usize) < entries.len();
        ahead.extend([entry.left, entry.right].into_iter().filter(exists));
    }
    names
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}
