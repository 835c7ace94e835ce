//! Logs: JSON lines to standard error, so that standard output stays for what
//! was asked for.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Postgres answers every rollback outside a transaction with a notice; the
/// pool makes one at each acquire.
const QUIET: &str = "sqlx::postgres::notice=error";

/// Starts logging for the process.
///
/// # Errors
/// If the level is no filter, or logging was started before.
pub fn start(config: &LogConfig) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(&config.level)?.add_directive(QUIET.parse()?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => builder.finish().try_init()?,
    }
    Ok(())
}
