//! The command line.

mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::documents::text::ExtractText;
use crate::sandbox::worker::{self, JobEntry, job};

/// Every job that a sandbox worker can do.
const JOBS: &[JobEntry] = &[job::<ExtractText>()];

/// An execution engine that turns document workflows into REST APIs.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the text of a document.
    Text(text::Arguments),
    /// Do jobs for a server that is this process's parent.
    #[command(hide = true)]
    SandboxWorker {
        /// Limit of the address space.
        #[arg(long)]
        memory_mib: u64,
    },
}

impl Cli {
    /// Does what the arguments say.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Text(arguments) => text::run(&arguments),
            Command::SandboxWorker { memory_mib } => match worker::run(JOBS, memory_mib) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            },
        }
    }
}
