//! `millrace serve`: the server, until it is told to stop.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::demo;
use crate::app::App;
use crate::config::Config;
use crate::faults;
use crate::sandbox::{Confinement, Sandbox};
use crate::telemetry;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// File with settings that differ from the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Declare the demo deployments and print calls to paste.
    #[arg(long)]
    demo: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match actix_web::rt::System::new().block_on(serve(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "millrace: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = Config::load(arguments.config.as_deref())?;
    telemetry::start(&config.log)?;
    let _faults = faults::arm();
    if arguments.demo {
        demo::add_connection(&mut config);
    }
    // Before the start, so that no signal finds nobody listening.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let app = App::start(config).await?;
    report_confinement(app.engine().context().services.sandbox.clone());
    let base = format!("http://{}", app.address());
    let mut out = io::stdout();
    if let Some(token) = app.operator_token() {
        writeln!(out, "operator token, shown this once: {token}")?;
    }
    if arguments.demo {
        let calls = demo::declare(app.engine(), &base).await?;
        out.write_all(calls.as_bytes())?;
    }
    writeln!(out, "listening on {base}")?;
    out.flush()?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => app.reload(),
        }
    }
    tracing::info!("draining");
    tokio::select! {
        () = app.stop() => {}
        // A second signal does not wait for what still runs.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Says once in the log what parsers are not kept from on this system. The
/// server does not wait for it.
fn report_confinement(sandbox: Sandbox) {
    actix_web::rt::spawn(async move {
        match sandbox.confinement().await {
            Ok(Confinement { files: true, network: true }) => {}
            Ok(Confinement { files, network }) => tracing::warn!(
                files,
                network,
                "child processes can reach files or the network: this system lacks seccomp or Landlock"
            ),
            Err(error) => tracing::error!(%error, "child processes do not work"),
        }
    });
}
