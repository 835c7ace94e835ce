//! The folder of deployment files, read whole.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use super::outcome::Fault;

/// Bytes of one file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Files in the folder.
const MAX_FILES: usize = 20_000;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// A file's name in the folder, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Reads every deployment file in the order of the names; none if there is no
/// such folder. Blocks.
///
/// # Errors
/// Every file that cannot be read, or the folder.
pub fn read(folder: &Path) -> Result<Option<Vec<Source>>, Vec<Fault>> {
    let names = match names(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(vec![Fault::of_folder(error.to_string())]),
    };
    if names.len() > MAX_FILES {
        return Err(vec![Fault::of_folder(format!("at most {MAX_FILES} files"))]);
    }
    let mut faults = Vec::new();
    let mut sources = Vec::with_capacity(names.len());
    for name in names {
        match read_whole(&folder.join(&name)) {
            Ok(text) => sources.push(Source { name, text }),
            Err(reason) => faults.push(Fault::of_file(&name, reason)),
        }
    }
    if faults.is_empty() { Ok(Some(sources)) } else { Err(faults) }
}

/// Names that end in `.toml` and do not begin with a dot: editors keep their
/// own files beside the one they write under other names.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A file that nobody wrote to while it was read.
fn read_whole(path: &Path) -> Result<String, String> {
    for _ in 0..ATTEMPTS {
        // Before it is opened: opening a pipe would wait for its writer.
        let before = fs::metadata(path).map_err(|error| error.to_string())?;
        if !before.is_file() {
            return Err("not a file".into());
        }
        if before.len() > MAX_BYTES {
            return Err(format!("at most {MAX_BYTES} bytes"));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let after = fs::metadata(path).map_err(|error| error.to_string())?;
        if stamp(&before) == stamp(&after) && bytes.len() as u64 == after.len() {
            return String::from_utf8(bytes).map_err(|_| "not UTF-8".into());
        }
    }
    Err("it changes while it is read; reload when it is whole".into())
}

fn stamp(metadata: &Metadata) -> (u64, Option<std::time::SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}
