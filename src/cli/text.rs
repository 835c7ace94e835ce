//! `millrace text`: the text of one file, as the step `extract_text` gives it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::documents::text::{ExtractText, Options, Output};
use crate::sandbox::{Sandbox, SandboxConfig};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The document.
    file: PathBuf,
    /// How the text is written.
    #[arg(long, default_value = "markdown")]
    format: Format,
    /// Seconds after which extraction is given up.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Markdown,
    Plain,
    Layout,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match text(arguments).and_then(|text| io::stdout().write_all(text.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "millrace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn text(arguments: &Arguments) -> io::Result<String> {
    let bytes = std::fs::read(&arguments.file)?;
    let name = arguments.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let output = match arguments.format {
        Format::Markdown => Output::Markdown,
        Format::Plain => Output::Plain,
        Format::Layout => Output::Layout,
    };
    let job = ExtractText(Options { name, output, ..Options::default() });
    let limit = Duration::from_secs(arguments.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let extracted = runtime.block_on(async {
        let sandbox = Sandbox::new(SandboxConfig { workers: 1, ..SandboxConfig::default() });
        sandbox.call(job, bytes.into(), limit, &CancellationToken::new()).await
    });
    Ok(extracted.map_err(io::Error::other)?.text)
}
