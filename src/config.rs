//! Settings: built-in defaults < file < environment, typed and checked whole.

mod checks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::cidr::Cidr;
use crate::connections::form::{self, FormError, Settings};
use crate::connections::{Connection, Connections, Kind};
use crate::documents::fetch::FetchConfig;
use crate::outbound::OutboundConfig;
use crate::sandbox::SandboxConfig;
use crate::secrets::{Keyring, SecretsConfig};

/// The documented default configuration is the default.
pub const DEFAULTS: &str = include_str!("../config.toml");

/// Read where the server starts, if it is there and no file is named.
const LOCAL: &str = "config.toml";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable is missing, malformed, or names no setting.
    #[error("configuration: {0}")]
    Form(#[from] Box<figment::Error>),
    /// A value is out of its range.
    #[error("configuration: {place}: {reason}")]
    Value {
        /// Section and name of the setting.
        place: &'static str,
        /// What would be right.
        reason: &'static str,
    },
    /// The file named with `--config` is not there.
    #[error("configuration: no file {}", .0.display())]
    NoFile(PathBuf),
}

/// All settings. See `config.toml` for their meaning, units and defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct Config {
    pub server: ServerConfig,
    pub database: DatabaseConfig,
    pub documents: DocumentsConfig,
    pub deployments: DeploymentsConfig,
    pub sandbox: SandboxConfig,
    pub engine: EngineConfig,
    pub usage: UsageConfig,
    pub retention: RetentionConfig,
    pub webhooks: WebhooksConfig,
    pub log: LogConfig,
    pub secrets: SecretsConfig,
    pub outbound: OutboundConfig,
    pub fetch: FetchConfig,
    pub connections_api: ConnectionsApiConfig,
    #[serde(default)]
    pub connections: Vec<NamedConnection>,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct ServerConfig {
    pub host: String,
    pub port: u16,
    pub public_url: String,
    #[serde(deserialize_with = "secret")]
    pub admin_token: SecretString,
    pub workers: usize,
    pub max_connections: usize,
    pub max_json_bytes: usize,
    pub max_field_bytes: usize,
    pub max_body_memory_bytes: usize,
    pub trusted_proxies: Vec<Cidr>,
    pub body_idle_seconds: u64,
    pub body_seconds: u64,
    pub head_seconds: u64,
    pub keep_alive_seconds: u64,
    pub disconnect_seconds: u64,
    pub max_event_streams: usize,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct DatabaseConfig {
    pub url: SecretString,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
    pub answer_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub transaction_timeout_ms: u64,
    pub idle_in_transaction_ms: u64,
    pub committers: usize,
    pub commit_batch: usize,
    pub commit_queue: usize,
}

/// `[documents]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct DocumentsConfig {
    pub folder: String,
}

/// `[deployments]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct DeploymentsConfig {
    pub folder: PathBuf,
    pub watch: bool,
    pub settle_ms: u64,
}

/// `[engine]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct EngineConfig {
    pub arbiters: usize,
    pub step_threads: usize,
    pub max_executions: usize,
    pub document_concurrency: usize,
    pub inline_bytes: usize,
    pub lease_seconds: u32,
    pub max_recoveries: i32,
    pub drain_grace_seconds: u64,
    pub cancel_grace_seconds: u64,
}

impl EngineConfig {
    /// Silence after which a node counts as gone.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.into())
    }
}

/// `[usage]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct UsageConfig {
    pub flush_seconds: u64,
    pub minute_days: u32,
    pub hour_days: u32,
    pub day_days: u32,
}

/// `[retention]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct RetentionConfig {
    pub sweep_seconds: u64,
    pub batch: usize,
    pub tombstone_days: u32,
    pub webhook_days: u32,
    pub grace_seconds: u64,
    pub idempotency_hours: u32,
}

/// `[webhooks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct WebhooksConfig {
    pub retry_seconds: Vec<u32>,
    pub retry_after_seconds: u32,
    pub timeout_seconds: u32,
    pub max_in_flight: usize,
    pub max_per_receiver: usize,
}

/// What the engine needs to keep house.
#[derive(Debug, Clone)]
pub struct UpkeepConfig {
    /// `[usage]`
    pub usage: UsageConfig,
    /// `[retention]`
    pub retention: RetentionConfig,
    /// `[webhooks]`
    pub webhooks: WebhooksConfig,
    /// How callers reach the server, without a last slash; empty if that is
    /// not known.
    pub public_url: String,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `[connections_api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct ConnectionsApiConfig {
    pub local_folders: Vec<PathBuf>,
}

/// One of `[[connections]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "ConnectionTable")]
pub struct NamedConnection {
    /// Whose connection it is.
    pub org_id: String,
    /// The name that steps give.
    pub name: String,
    /// Where it leads.
    pub connection: Connection,
}

/// A table of `[[connections]]`, as it is written.
#[derive(Deserialize)]
struct ConnectionTable {
    org_id: String,
    name: String,
    kind: Kind,
    #[serde(flatten)]
    settings: Settings,
}

impl TryFrom<ConnectionTable> for NamedConnection {
    type Error = String;

    /// A fault names its place and never a value, which may be a secret.
    fn try_from(table: ConnectionTable) -> Result<Self, String> {
        let ConnectionTable { org_id, name, kind, settings } = table;
        let connection = form::read(kind, settings).map_err(|error| match error {
            FormError::Misplaced(error) => {
                format!(
                    "connection `{name}`: missing or unknown, or of another type: {}",
                    error.path()
                )
            }
            FormError::Faults(faults) => {
                let faults = faults.iter().map(|(place, cure)| format!("{place}: {cure}"));
                format!("connection `{name}`: {}", faults.collect::<Vec<_>>().join("; "))
            }
        })?;
        Ok(Self { org_id, name, connection })
    }
}

impl Config {
    /// Reads defaults, then `file` (or `./config.toml` if it is there), then
    /// the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and what would be right.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        match file {
            Some(path) if !path.is_file() => return Err(ConfigError::NoFile(path.to_owned())),
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if Path::new(LOCAL).is_file() => figment = figment.merge(Toml::file_exact(LOCAL)),
            None => {}
        }
        // MILLRACE_TEST_… belongs to the tests and names no setting.
        let environment =
            Env::prefixed("MILLRACE_").filter(|key| !key.starts_with("TEST_")).split("__");
        Self::from_figment(&figment.merge(environment))
    }

    /// Takes settings from any figment whose base is [`DEFAULTS`].
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        let config: Self = figment.extract().map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        match checks::of(self).into_iter().find(|check| !check.holds) {
            Some(checks::Check { place, cure, .. }) => {
                Err(ConfigError::Value { place, reason: cure })
            }
            None => Ok(()),
        }
    }

    /// Whether the embedded database is used.
    pub fn is_sqlite(&self) -> bool {
        self.database.url.expose_secret().starts_with("sqlite:")
    }

    /// What the engine needs to keep house.
    pub fn upkeep(&self) -> UpkeepConfig {
        UpkeepConfig {
            usage: self.usage.clone(),
            retention: self.retention.clone(),
            webhooks: self.webhooks.clone(),
            public_url: self.server.public_url.trim_end_matches('/').to_owned(),
        }
    }

    /// The connections that steps may use. `keyring` opens those that are
    /// stored.
    pub fn connections(&self, keyring: Keyring) -> Connections {
        let declared = self
            .connections
            .iter()
            .map(|named| ((named.org_id.clone(), named.name.clone()), named.connection.clone()));
        let folders = self.connections_api.local_folders.iter();
        let absolute = folders.filter_map(|folder| std::path::absolute(folder).ok());
        Connections::new(declared).with(keyring, absolute.collect())
    }
}

/// A secret from the environment may look like a number.
pub(crate) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Number(u64),
    }
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => text.into(),
        Scalar::Number(number) => number.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<Config, ConfigError> {
        Config::from_figment(&Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)))
    }

    #[test]
    fn the_documented_defaults_are_valid_settings() {
        let config = with("").unwrap();
        assert_eq!(config.server.port, 8080);
        assert!(config.is_sqlite());
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = with("[server]\nprot = 1").unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_place() {
        let error = with("[engine]\narbiters = 0").unwrap_err().to_string();
        assert_eq!(error, "configuration: engine.arbiters: must be 1 or more");
    }

    #[test]
    fn a_proxy_is_trusted_by_its_block_of_addresses() {
        let config = with("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]").unwrap();
        assert!(config.server.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()));
        let error = with("[server]\ntrusted_proxies = [\"10.0.0.1\"]").unwrap_err().to_string();
        assert!(error.contains("192.0.2.0/24") && error.contains("trusted_proxies"), "{error}");
    }

    #[test]
    fn a_connection_belongs_to_the_organisation_that_declares_it() {
        let config = with(
            "[[connections]]\norg_id = \"acme\"\nname = \"w\"\nkind = \"sql\"\nurl = \"sqlite://x\"",
        )
        .unwrap();
        let connections = config.connections(Keyring::empty());
        assert!(connections.get("acme", "w").is_some());
        assert!(connections.get("other", "w").is_none());
    }

    #[test]
    fn a_fault_of_a_connection_names_its_place_and_no_value() {
        for (fields, place) in [
            ("kind = \"sql\"\nurl = \"s3cr3t\"", "url"),
            ("kind = \"sql\"\nurl = [\"s3cr3t\"]", "url"),
            ("kind = \"sql\"\nurl = \"sqlite://x\"\nuser = \"s3cr3t\"", "user"),
            ("kind = \"object_store\"\nservice = \"s3cr3t\"", "service"),
        ] {
            let toml = format!("[[connections]]\norg_id = \"acme\"\nname = \"w\"\n{fields}");
            let error = with(&toml).unwrap_err().to_string();
            assert!(error.contains("connection `w`") && error.contains(place), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
