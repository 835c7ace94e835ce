//! What a worker is kept from: files, the network and other programs.
//!
//! On Linux a filter of system calls leaves it memory, threads, time and the
//! streams that it has, and Landlock leaves it no path. Other systems know
//! neither; there the limits and the process boundary hold.

#[cfg(target_os = "linux")]
mod linux;

use std::os::unix::net::UnixDatagram;

use serde::{Deserialize, Serialize};

use super::{Job, JobError};

/// What a worker turned out to be kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// It can open no file.
    pub files: bool,
    /// It can open no socket, and with that call nobody.
    pub network: bool,
}

/// Tries, in a worker, what a worker must not do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Probe;

impl Job for Probe {
    const NAME: &'static str = "probe";
    type Output = Confinement;

    fn perform(self, _: Vec<u8>) -> Result<Confinement, JobError> {
        let files = std::fs::read_dir("/").is_err();
        let network = UnixDatagram::unbound().is_err();
        Ok(Confinement { files, network })
    }
}

/// Takes from this thread, and from all that it starts, whatever a job does
/// not need. What the system cannot do is left out; [`Probe`] tells.
pub(super) fn confine() {
    #[cfg(target_os = "linux")]
    linux::confine();
}
