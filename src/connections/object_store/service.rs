//! The services of this build and the options that each takes.
//!
//! Only options that are listed are taken: OpenDAL has others, and other names
//! of the same ones, that would lead to this server's own files, environment
//! or identity.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opendal::services::{AzblobConfig, FsConfig, GcsConfig, MemoryConfig, S3Config, SftpConfig};
use opendal::{Configurator, Error, ErrorKind, Operator};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::connections::form::{Faults, check_http_url};

/// The services that this build has, by OpenDAL's names.
pub const SERVICES: [&str; 6] = ["azblob", "fs", "gcs", "memory", "s3", "sftp"];

/// What a service takes.
struct Rules {
    required: &'static [&'static str],
    optional: &'static [&'static str],
    /// All options of one of these must be there: who calls. Without them a
    /// service would look for an identity of this server's.
    identities: &'static [&'static [&'static str]],
}

/// Calls are not signed: what everybody may do.
const ANONYMOUS: &str = "skip_signature";

/// Options that are `true` or `false`.
const SWITCHES: [&str; 2] = [ANONYMOUS, "enable_virtual_host_style"];

fn rules(service: &str) -> Option<Rules> {
    let rules = match service {
        "azblob" => Rules {
            required: &["container", "endpoint"],
            optional: &["root"],
            identities: &[&["account_name", "account_key"], &["sas_token"], &[ANONYMOUS]],
        },
        "fs" => Rules { required: &["root"], optional: &["atomic_write_dir"], identities: &[] },
        "gcs" => Rules {
            required: &["bucket"],
            optional: &["root", "endpoint", "scope", "default_storage_class", "predefined_acl"],
            identities: &[&["credential"], &["token"], &[ANONYMOUS]],
        },
        "memory" => Rules { required: &[], optional: &["root"], identities: &[] },
        "s3" => Rules {
            required: &["bucket", "region"],
            optional: &[
                "root",
                "endpoint",
                "session_token",
                "enable_virtual_host_style",
                "default_storage_class",
                "default_acl",
                "checksum_algorithm",
                "server_side_encryption",
                "server_side_encryption_aws_kms_key_id",
            ],
            identities: &[&["access_key_id", "secret_access_key"], &[ANONYMOUS]],
        },
        "sftp" => Rules {
            required: &["endpoint"],
            optional: &["root", "user", "key", "known_hosts_strategy"],
            identities: &[],
        },
        _ => return None,
    };
    Some(rules)
}

impl Rules {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let identities = self.identities.iter().copied().flatten();
        self.required.iter().chain(self.optional).chain(identities).copied()
    }
}

/// What is wrong with a service and its options, each with its place and what
/// would be right.
pub fn faults(service: &str, options: &BTreeMap<String, SecretString>) -> Faults {
    let Some(rules) = rules(service) else {
        return vec![("service".into(), format!("one of: {}", SERVICES.join(", ")))];
    };
    let mut faults = Faults::new();
    for name in options.keys().filter(|name| !rules.names().any(|known| known == **name)) {
        let known: Vec<_> = rules.names().collect();
        faults.push((format!("options.{name}"), format!("{service} takes: {}", known.join(", "))));
    }
    for name in rules.required.iter().filter(|name| !options.contains_key(**name)) {
        faults.push((format!("options.{name}"), format!("{service} needs it")));
    }
    let given = |name: &&str| options.get(*name).is_some_and(|value| is_on(name, value));
    if !rules.identities.is_empty() && !rules.identities.iter().any(|all| all.iter().all(given)) {
        let all: Vec<_> = rules.identities.iter().map(|all| all.join(" and ")).collect();
        faults.push(("options".into(), format!("{service} needs {}", all.join(", or "))));
    }
    values(service, options, &mut faults);
    faults
}

fn is_on(name: &str, value: &SecretString) -> bool {
    name != ANONYMOUS || value.expose_secret() == "true"
}

fn values(service: &str, options: &BTreeMap<String, SecretString>, faults: &mut Faults) {
    let value = |name: &str| options.get(name).map(ExposeSecret::expose_secret);
    for name in SWITCHES {
        if value(name).is_some_and(|value| !["true", "false"].contains(&value)) {
            faults.push((format!("options.{name}"), "true or false".into()));
        }
    }
    match value("endpoint") {
        // `ssh` would take it for one of its own options.
        Some(endpoint) if service == "sftp" && endpoint.starts_with('-') => {
            faults.push(("options.endpoint".into(), "the address of a host".into()));
        }
        Some(endpoint) if service != "sftp" => check_http_url(faults, "options.endpoint", endpoint),
        _ => {}
    }
    if let ("gcs", Some(credential)) = (service, value("credential"))
        && !is_service_account(credential)
    {
        let cure = "the JSON key of a service account, in base64";
        faults.push(("options.credential".into(), cure.into()));
    }
    if let ("azblob", Some(key)) = (service, value("account_key"))
        && STANDARD.decode(key).is_err()
    {
        faults.push(("options.account_key".into(), "base64".into()));
    }
}

/// Google's other forms of a credential name files, programs and addresses
/// for the library to read, run and call.
fn is_service_account(credential: &str) -> bool {
    let decoded = STANDARD.decode(credential).ok();
    let parsed = decoded.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    parsed.is_some_and(|json| {
        json.get("type").is_some_and(|kind| kind == "service_account")
            && ["client_email", "private_key"].iter().all(|key| json.get(key).is_some())
    })
}

/// The store of a service. Nothing that it needs is taken from this server's
/// environment, files or machine.
pub(super) fn build(
    service: &str,
    mut options: BTreeMap<String, String>,
) -> Result<Operator, Error> {
    match service {
        "azblob" => Operator::from_config(AzblobConfig::from_iter(options)?),
        "fs" => {
            if let (Some(root), None) = (options.get("root"), options.get("atomic_write_dir")) {
                // Written aside and renamed, so that nobody reads half an object.
                let aside = format!("{}/.millrace", root.trim_end_matches('/'));
                options.insert("atomic_write_dir".to_owned(), aside);
            }
            Operator::from_config(FsConfig::from_iter(options)?)
        }
        "gcs" => {
            let mut config = GcsConfig::from_iter(options)?;
            config.disable_config_load = true;
            config.disable_vm_metadata = true;
            Operator::from_config(config)
        }
        "memory" => Operator::from_config(MemoryConfig::from_iter(options)?),
        "s3" => {
            let mut config = S3Config::from_iter(options)?;
            config.disable_config_load = true;
            config.disable_ec2_metadata = true;
            Operator::from_config(config)
        }
        "sftp" => Operator::from_config(SftpConfig::from_iter(options)?),
        _ => Err(Error::new(ErrorKind::Unsupported, "not a service of this build")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::connections::form;

    fn options(given: &Value) -> BTreeMap<String, SecretString> {
        let given = given.as_object().unwrap().iter();
        given.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect()
    }

    fn credential(kind: &str) -> String {
        let json = json!({"type": kind, "client_email": "a@b", "private_key": "k"});
        STANDARD.encode(json.to_string())
    }

    #[test]
    fn every_service_can_be_built_with_what_its_rules_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let value = |service: &str, name: &str| match name {
            "root" => folder.path().to_str().unwrap().to_owned(),
            "endpoint" => "https://store.example".to_owned(),
            "account_key" => "a2V5".to_owned(),
            "credential" => credential("service_account"),
            ANONYMOUS => "true".to_owned(),
            _ => format!("{service}-x"),
        };
        for service in SERVICES {
            let rules = rules(service).unwrap();
            let none: &[&[&str]] = &[&[]];
            for identity in if rules.identities.is_empty() { none } else { rules.identities } {
                let names = rules.required.iter().chain(*identity);
                let given: BTreeMap<String, String> =
                    names.map(|name| ((*name).to_owned(), value(service, name))).collect();
                let written =
                    given.iter().map(|(name, value)| (name.clone(), value.clone().into()));
                assert_eq!(faults(service, &written.collect()), [], "{service}");
                assert!(build(service, given).is_ok(), "{service}");
            }
        }
        assert!(build("s4", BTreeMap::new()).is_err());
    }

    #[test]
    fn what_is_missing_or_of_no_use_is_named() {
        let keys =
            json!({"bucket": "b", "region": "r", "access_key_id": "a", "secret_access_key": "s"});
        let with = |name: &str, value: &str| {
            let mut given = keys.clone();
            given[name] = json!(value);
            given
        };
        for (service, given, expected) in [
            ("s3", keys.clone(), vec![]),
            ("s3", json!({}), vec!["options.bucket", "options.region", "options"]),
            ("s3", json!({"bucket": "b", "region": "r", "access_key_id": "a"}), vec!["options"]),
            ("s3", json!({"bucket": "b", "region": "r", "skip_signature": "true"}), vec![]),
            (
                "s3",
                json!({"bucket": "b", "region": "r", "skip_signature": "false"}),
                vec!["options"],
            ),
            (
                "s3",
                with("enable_virtual_host_style", "yes"),
                vec!["options.enable_virtual_host_style"],
            ),
            ("s3", with("endpoint", "store.example"), vec!["options.endpoint"]),
            ("s3", with("endpoint", "https://h/?sig=x"), vec!["options.endpoint"]),
            // Other names of the endpoint, and identities of this machine.
            ("s3", with("endpoint_url", "http://h"), vec!["options.endpoint_url"]),
            ("s3", with("role_arn", "x"), vec!["options.role_arn"]),
            ("s3", with("profile", "x"), vec!["options.profile"]),
            ("s3", with("disable_ec2_metadata", "false"), vec!["options.disable_ec2_metadata"]),
            ("gcs", json!({"bucket": "b"}), vec!["options"]),
            ("gcs", json!({"bucket": "b", "credential": credential("service_account")}), vec![]),
            (
                "gcs",
                json!({"bucket": "b", "credential": credential("external_account")}),
                vec!["options.credential"],
            ),
            ("gcs", json!({"bucket": "b", "credential": "{}"}), vec!["options.credential"]),
            (
                "gcs",
                json!({"bucket": "b", "credential_path": "/x"}),
                vec!["options.credential_path", "options"],
            ),
            (
                "azblob",
                json!({"container": "c", "endpoint": "https://h", "account_key": "a2V5"}),
                vec!["options"],
            ),
            (
                "azblob",
                json!({"container": "c", "endpoint": "https://h", "account_name": "a", "account_key": "-"}),
                vec!["options.account_key"],
            ),
            ("sftp", json!({"endpoint": "-oProxyCommand=x"}), vec!["options.endpoint"]),
            ("sftp", json!({"endpoint": "ssh://h:22", "user": "u"}), vec![]),
        ] {
            let places: Vec<_> =
                faults(service, &options(&given)).into_iter().map(|fault| fault.0).collect();
            assert_eq!(places, expected, "{service} {given}");
        }
    }

    #[test]
    fn who_calls_is_never_shown() {
        for service in SERVICES.iter().filter(|service| **service != "sftp") {
            let rules = rules(service).unwrap();
            let shown = ["account_name", ANONYMOUS];
            let identities = rules.identities.iter().copied().flatten();
            for name in identities.filter(|name| !shown.contains(name)) {
                assert!(form::is_secret_option(name), "{service} {name}");
            }
            for name in rules.required {
                assert!(!form::is_secret_option(name), "{service} {name}");
            }
        }
    }
}
