//! The command line.

mod demo;
mod serve;
mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::documents::text::ExtractText;
use crate::sandbox::Probe;
use crate::sandbox::worker::{self, JobEntry, job};
use crate::schema::FindViolations;
use crate::steps::jq::EvaluateJq;

/// Every job that a sandbox worker can do.
const JOBS: &[JobEntry] =
    &[job::<Probe>(), job::<ExtractText>(), job::<EvaluateJq>(), job::<FindViolations>()];

/// An execution engine that turns document workflows into REST APIs.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C.
    Serve(serve::Arguments),
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
            Command::Serve(arguments) => serve::run(&arguments),
            Command::Text(arguments) => text::run(&arguments),
            Command::SandboxWorker { memory_mib } => match worker::run(JOBS, memory_mib) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            },
        }
    }
}
