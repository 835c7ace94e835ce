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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_of_the_right_name_are_read_and_no_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["b.toml", "a.toml", ".hidden.toml", "a.toml~", "a.toml.swp", "#a.toml#", "a"] {
            fs::write(place(name), name).unwrap();
        }
        let source = |name: &str| Source { name: name.into(), text: name.into() };
        let read_all = || read(folder.path());
        assert_eq!(read_all(), Ok(Some(vec![source("a.toml"), source("b.toml")])));
        assert_eq!(read(&place("nowhere")), Ok(None));
    }

    #[test]
    fn what_is_no_file_of_text_is_named_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::create_dir(place("folder.toml")).unwrap();
        fs::write(place("bytes.toml"), [0xff]).unwrap();
        fs::write(place("large.toml"), vec![b' '; 1024 * 1024 + 1]).unwrap();
        std::os::unix::fs::symlink("nowhere", place("link.toml")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(place("pipe.toml")).status().unwrap();
        assert!(made.success());
        let faults = read(folder.path()).unwrap_err();
        let told: Vec<_> =
            faults.iter().map(|fault| (fault.file.as_str(), fault.reason.as_str())).collect();
        assert_eq!(told[0], ("bytes.toml", "not UTF-8"));
        assert_eq!(told[1], ("folder.toml", "not a file"));
        assert_eq!(told[2], ("large.toml", "at most 1048576 bytes"));
        assert_eq!(told[3].0, "link.toml");
        assert_eq!(told[4], ("pipe.toml", "not a file"));
    }
}
