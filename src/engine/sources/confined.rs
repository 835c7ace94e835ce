//! Files of this machine stay below the folder of their connection, whatever
//! links there are in it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// Whether files lie within their connection.
#[derive(Debug, Clone)]
pub(super) enum Confined {
    /// The store has no links.
    Always,
    /// Below this folder, which is itself no link.
    Below(PathBuf),
    /// The folder cannot be looked at.
    Never,
}

impl Confined {
    /// What holds for a connection.
    pub(super) async fn of(service: &str, options: &BTreeMap<String, SecretString>) -> Self {
        let ("fs", Some(root)) = (service, options.get("root")) else { return Self::Always };
        match tokio::fs::canonicalize(root.expose_secret()).await {
            Ok(root) => Self::Below(root),
            Err(_) => Self::Never,
        }
    }

    /// The folder that files stay below, if they lie in one of this machine.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Below(root) => Some(root),
            Self::Always | Self::Never => None,
        }
    }

    /// Whether the path leads to something within. What is not there does: to
    /// nothing.
    pub(super) async fn holds(&self, path: &str) -> bool {
        let root = match self {
            Self::Always => return true,
            Self::Never => return false,
            Self::Below(root) => root,
        };
        match tokio::fs::canonicalize(root.join(path)).await {
            Ok(real) => real.starts_with(root),
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}
