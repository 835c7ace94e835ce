//! The files below a folder of this machine. Links are not followed, neither to
//! files nor to folders, so that the walk ends and stays within.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use tokio::fs::{DirEntry, ReadDir};

use super::listing::Listed;

/// A walk, one folder at a time.
pub(super) struct Walk {
    root: PathBuf,
    /// Folders that are still to be read.
    waiting: Vec<PathBuf>,
    reading: Option<ReadDir>,
    /// Files and folders that cannot be named or read.
    pub(super) passed_over: usize,
}

impl Walk {
    /// Goes through what is below `folder`, a path within `root`.
    pub(super) fn new(root: &Path, folder: &str) -> Self {
        let waiting = vec![root.join(folder)];
        Self { root: root.to_owned(), waiting, reading: None, passed_over: 0 }
    }

    /// The next file. What vanishes meanwhile was never there.
    pub(super) async fn next(&mut self) -> Option<Listed> {
        loop {
            let Some(reading) = &mut self.reading else {
                let folder = self.waiting.pop()?;
                match tokio::fs::read_dir(&folder).await {
                    Ok(reading) => self.reading = Some(reading),
                    Err(error) => self.pass_over(&error),
                }
                continue;
            };
            match reading.next_entry().await {
                Ok(Some(entry)) => {
                    if let Some(listed) = self.look(&entry).await {
                        return Some(listed);
                    }
                }
                Ok(None) => self.reading = None,
                Err(error) => {
                    self.reading = None;
                    self.pass_over(&error);
                }
            }
        }
    }

    /// Of the entry itself, not of what it links to.
    async fn look(&mut self, entry: &DirEntry) -> Option<Listed> {
        let metadata = match entry.metadata().await {
            Ok(metadata) => metadata,
            Err(error) => {
                self.pass_over(&error);
                return None;
            }
        };
        let path = entry.path();
        if metadata.is_dir() {
            self.waiting.push(path);
            return None;
        }
        let Some(path) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else {
            self.passed_over += 1;
            return None;
        };
        let modified = metadata.modified().ok();
        metadata.is_file().then(|| Listed {
            path: path.to_owned(),
            size: metadata.len(),
            modified: modified.map(|time| DateTime::<Utc>::from(time).timestamp_micros()),
            etag: None,
        })
    }

    fn pass_over(&mut self, error: &std::io::Error) {
        self.passed_over += usize::from(error.kind() != std::io::ErrorKind::NotFound);
    }
}
