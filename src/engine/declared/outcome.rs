//! What comes of a reload: the difference it made, or why it made none.

use std::fmt;

use uuid::Uuid;

use crate::store::StoreError;

/// A deployment that a reload concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Primary key.
    pub id: Uuid,
    /// Slug of its organisation.
    pub org_id: String,
    /// Its name.
    pub api_name: String,
    /// The file that declares it, or declared it; none if the API made it.
    pub file: Option<String>,
    /// Names of the fields that change.
    pub fields: Vec<String>,
    /// Its revision before; none if it is new.
    pub from_revision: Option<i32>,
    /// Its revision after.
    pub to_revision: i32,
}

/// What a reload changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Declared, and not there before.
    pub added: Vec<Item>,
    /// Declared otherwise than before, or serving a workflow that is.
    pub changed: Vec<Item>,
    /// No longer declared: switched off.
    pub removed: Vec<Item>,
    /// Declared as before.
    pub unchanged: usize,
}

impl Difference {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// Every deployment that gets a revision.
    pub fn ids(&self) -> Vec<Uuid> {
        let items = self.added.iter().chain(&self.changed).chain(&self.removed);
        items.map(|item| item.id).collect()
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the folder; empty for the folder itself.
    pub file: String,
    /// Line and column, both from 1, if it is one place.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Fault {
    pub(super) fn of_file(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, reason: reason.into() }
    }

    pub(super) fn of_folder(reason: impl Into<String>) -> Self {
        Self::of_file("", reason)
    }
}

/// `x.toml:12:5`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Files that cannot be used.
    #[error("{} faults in deployment files", .0.len())]
    Faults(Vec<Fault>),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}
