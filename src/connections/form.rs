//! How connections are written: the fields of each kind, their rules, and
//! which of them are secrets.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::{Connection, Kind, object_store, signing};
use crate::llm;
use crate::llm::provider::{self, JsonMode};
use crate::llm::settings::{MAX_PRICE, MAX_TOKENS};
use crate::sql_pools;

/// Fields as they are written, those of all kinds left out.
pub type Settings = Map<String, Value>;

/// Secrets by their place in the settings (`url`, `headers.Authorization`).
pub type Secrets = BTreeMap<String, SecretString>;

/// Places that are wrong, with their cures.
pub type Faults = Vec<(String, String)>;

/// Bytes of one text.
const MAX_TEXT: usize = 8192;

/// Headers, or options.
const MAX_ENTRIES: usize = 64;

/// Where a database is shown to be, beside the settings that are stored: a URL
/// without its secrets.
pub const LOCATION: &str = "location";

/// Options of object stores that may be read again. Whatever OpenDAL has
/// besides these may be a credential.
const HARMLESS: [&str; 15] = [
    "root",
    "bucket",
    "container",
    "endpoint",
    "region",
    "account_name",
    "atomic_write_dir",
    "checksum_algorithm",
    "default_acl",
    "default_storage_class",
    "enable_virtual_host_style",
    "predefined_acl",
    "scope",
    "server_side_encryption",
    "skip_signature",
];

/// Whether an option of an object store is a secret.
pub(super) fn is_secret_option(name: &str) -> bool {
    !HARMLESS.contains(&name)
}

/// Whether a setting is a secret: the one place that says so. `key` is a name
/// within the field; a list is secret as a whole.
fn is_secret(kind: Kind, field: &str, key: &str) -> bool {
    match (kind, field) {
        (Kind::Sql, "url")
        | (Kind::Http, "headers" | "signing_secrets")
        | (Kind::Llm, "api_key") => true,
        (Kind::ObjectStore, "options") => is_secret_option(key),
        _ => false,
    }
}

/// Why settings cannot be used.
#[derive(Debug)]
pub enum FormError {
    /// They are not of the kind's form.
    Misplaced(serde_path_to_error::Error<serde_json::Error>),
    /// They break rules.
    Faults(Faults),
}

/// A database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlForm {
    /// `postgres://user:password@host/database`; a secret as a whole.
    #[serde(skip_serializing)]
    #[schemars(with = "String", length(max = 8192))]
    url: SecretString,
}

/// An object store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreForm {
    /// `s3`, `gcs`, `azblob`, `sftp`, `fs` or `memory`.
    service: String,
    /// Options of the service. All but a few harmless ones, such as `root`, `bucket` and `region`, are secrets.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    options: Option<BTreeMap<String, SecretString>>,
}

/// A service that speaks HTTP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpForm {
    /// `http` or `https`, without user, password, query and fragment.
    base_url: String,
    /// Sent with every request; their values are secrets.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    headers: Option<BTreeMap<String, SecretString>>,
    /// What webhooks to it are signed with: `whsec_` and 24 to 64 bytes in base64. Two while one takes the other's place: then each signs.
    #[serde(default, skip_serializing)]
    #[schemars(
        with = "Option<Vec<String>>",
        length(max = 2),
        inner(regex(path = "signing::FORM"))
    )]
    signing_secrets: Option<Vec<SecretString>>,
}

/// A language model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmForm {
    /// Who serves it: `openai`, `azure`, `anthropic`, `gemini`, `ollama`, `deepseek`, `fireworks`, `groq`, `mistral`, `openrouter`, `together` or `xai`. Any other that speaks OpenAI's protocol is `openai` with its `base_url`.
    provider: String,
    /// `http` or `https`, without user, password, query and fragment; the provider's own if absent. `azure` needs it: `https://NAME.openai.azure.com/openai/v1`.
    #[serde(default)]
    base_url: Option<String>,
    /// Name of the model.
    model: String,
    /// The key, a secret, if it needs one.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    api_key: Option<SecretString>,
    /// Dollars for a million tokens of prompts; without it they cost nothing in the usage.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    input_price: Option<f64>,
    /// Dollars for a million tokens of answers.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    output_price: Option<f64>,
    /// Tokens of an answer, unless a step says otherwise; 4096 if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    max_output_tokens: Option<u32>,
    /// Tokens that the model takes, prompt and answer together. What is longer for certain is refused without a call; Ollama is told to take so much.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    context_tokens: Option<u32>,
    /// How an answer in JSON is asked for beside the prompt's words; what is usual for the provider if absent.
    #[serde(default)]
    json_mode: Option<JsonMode>,
}

impl From<LlmForm> for llm::Settings {
    fn from(form: LlmForm) -> Self {
        Self {
            provider: form.provider,
            base_url: form.base_url,
            model: form.model,
            api_key: form.api_key,
            input_price: form.input_price,
            output_price: form.output_price,
            max_output_tokens: form.max_output_tokens,
            context_tokens: form.context_tokens,
            json_mode: form.json_mode,
        }
    }
}

/// Reads the settings of a kind and checks them.
///
/// # Errors
/// [`FormError`] names the places and never a value.
pub fn read(kind: Kind, settings: Settings) -> Result<Connection, FormError> {
    let connection = match kind {
        Kind::Sql => {
            let SqlForm { url } = typed(settings)?;
            Connection::Sql { url }
        }
        Kind::ObjectStore => {
            let ObjectStoreForm { service, options } = typed(settings)?;
            Connection::ObjectStore { service, options: options.unwrap_or_default() }
        }
        Kind::Http => {
            let HttpForm { base_url, headers, signing_secrets } = typed(settings)?;
            Connection::Http {
                base_url,
                headers: headers.unwrap_or_default(),
                signing_secrets: signing_secrets.unwrap_or_default(),
            }
        }
        Kind::Llm => {
            let form: LlmForm = typed(settings)?;
            Connection::Llm(form.into())
        }
    };
    let faults = faults(&connection);
    if faults.is_empty() { Ok(connection) } else { Err(FormError::Faults(faults)) }
}

fn typed<T: DeserializeOwned>(settings: Settings) -> Result<T, FormError> {
    serde_path_to_error::deserialize(Value::Object(settings)).map_err(FormError::Misplaced)
}

fn faults(connection: &Connection) -> Faults {
    let mut faults = Faults::new();
    match connection {
        Connection::Sql { url } => {
            check_text(&mut faults, "url", url.expose_secret());
            if let Err(error) = sql_pools::check(url) {
                faults.push(("url".into(), error.to_string()));
            }
        }
        Connection::ObjectStore { service, options } => {
            check_options(&mut faults, service, options);
        }
        Connection::Http { base_url, headers, signing_secrets } => {
            check_http_url(&mut faults, "base_url", base_url);
            check_headers(&mut faults, headers);
            check_signing_secrets(&mut faults, signing_secrets);
        }
        Connection::Llm(llm) => check_llm(&mut faults, llm),
    }
    faults
}

fn check_llm(faults: &mut Faults, llm: &llm::Settings) {
    match (provider::find(&llm.provider), &llm.base_url) {
        (_, Some(base_url)) => check_http_url(faults, "base_url", base_url),
        (Some(provider::Provider { base_url: None, .. }), None) => {
            let cure = "the URL of your own resource, such as \
                        https://NAME.openai.azure.com/openai/v1";
            faults.push(("base_url".into(), cure.into()));
        }
        _ => {}
    }
    if provider::find(&llm.provider).is_none() {
        let cure = format!(
            "one of: {}; any other that speaks OpenAI's protocol is `openai` with its `base_url`",
            provider::names()
        );
        faults.push(("provider".into(), cure));
    }
    check_text(faults, "model", &llm.model);
    if let Some(api_key) = &llm.api_key {
        check_text(faults, "api_key", api_key.expose_secret());
        if HeaderValue::try_from(api_key.expose_secret()).is_err() {
            faults.push(("api_key".into(), "a value that an HTTP header can have".into()));
        }
    }
    for (place, price) in [("input_price", llm.input_price), ("output_price", llm.output_price)] {
        if price.is_some_and(|price| !(0.0..=MAX_PRICE).contains(&price)) {
            faults.push((place.into(), format!("0 to {MAX_PRICE} dollars")));
        }
    }
    let limits =
        [("max_output_tokens", llm.max_output_tokens), ("context_tokens", llm.context_tokens)];
    for (place, tokens) in limits {
        if tokens.is_some_and(|tokens| !(1..=MAX_TOKENS).contains(&tokens)) {
            faults.push((place.into(), format!("1 to {MAX_TOKENS}")));
        }
    }
}

fn check_text(faults: &mut Faults, place: &str, text: &str) {
    if text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control) {
        let cure = format!("1 to {MAX_TEXT} bytes without control characters");
        faults.push((place.to_owned(), cure));
    }
}

fn check_count(faults: &mut Faults, place: &str, entries: usize) {
    if entries > MAX_ENTRIES {
        faults.push((place.to_owned(), format!("at most {MAX_ENTRIES}")));
    }
}

fn check_options(faults: &mut Faults, service: &str, options: &BTreeMap<String, SecretString>) {
    check_count(faults, "options", options.len());
    for (name, value) in options {
        let place = format!("options.{name}");
        check_text(faults, &place, value.expose_secret());
    }
    faults.extend(object_store::faults(service, options));
}

fn check_headers(faults: &mut Faults, headers: &BTreeMap<String, SecretString>) {
    check_count(faults, "headers", headers.len());
    for (name, value) in headers {
        let place = format!("headers.{name}");
        if HeaderName::try_from(name.as_str()).is_err() || name.len() > 128 {
            faults.push((place.clone(), "the name of an HTTP header".into()));
        }
        check_text(faults, &place, value.expose_secret());
        if HeaderValue::try_from(value.expose_secret()).is_err() {
            faults.push((place, "a value that an HTTP header can have".into()));
        }
    }
}

fn check_signing_secrets(faults: &mut Faults, secrets: &[SecretString]) {
    if secrets.len() > signing::MAX_SECRETS {
        faults.push(("signing_secrets".into(), format!("at most {}", signing::MAX_SECRETS)));
    }
    let wrong = secrets.iter().enumerate().filter(|(_, secret)| !signing::is_secret(secret));
    faults.extend(wrong.map(|(n, _)| (format!("signing_secrets[{n}]"), signing::CURE.to_owned())));
}

/// An address of a service that speaks HTTP, with no place for a secret.
pub(super) fn check_http_url(faults: &mut Faults, place: &str, text: &str) {
    let fits = |url: Url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    if text.len() > MAX_TEXT || !Url::parse(text).is_ok_and(fits) {
        let cure = "an http or https URL without user, password, query and fragment";
        faults.push((place.to_owned(), cure.into()));
    }
}

/// Parts settings that were read into what may be shown and what is sealed.
pub fn part(kind: Kind, settings: Settings) -> (Settings, Secrets) {
    let (mut public, mut secrets) = (Settings::new(), Secrets::new());
    for (field, value) in settings {
        match value {
            Value::String(text) if is_secret(kind, &field, "") => {
                if let (Kind::Sql, Some(location)) = (kind, location(&text)) {
                    public.insert(LOCATION.into(), location.into());
                }
                secrets.insert(field, text.into());
            }
            Value::Object(entries) => {
                let mut shown = Settings::new();
                for (key, value) in entries {
                    match value {
                        Value::String(text) if is_secret(kind, &field, &key) => {
                            secrets.insert(format!("{field}.{key}"), text.into());
                        }
                        other => _ = shown.insert(key, other),
                    }
                }
                public.insert(field, shown.into());
            }
            Value::Array(items) if is_secret(kind, &field, "") => {
                for (index, item) in items.into_iter().enumerate() {
                    if let Value::String(text) = item {
                        secrets.insert(format!("{field}.{index}"), text.into());
                    }
                }
                public.insert(field, Value::Array(Vec::new()));
            }
            other => _ = public.insert(field, other),
        }
    }
    (public, secrets)
}

/// Puts together what [`part`] has parted.
pub fn whole(mut settings: Settings, secrets: &Secrets) -> Settings {
    settings.remove(LOCATION);
    for (place, secret) in secrets {
        let secret = Value::from(secret.expose_secret());
        match place.split_once('.') {
            None => _ = settings.insert(place.clone(), secret),
            Some((field, key)) => match settings.get_mut(field) {
                Some(Value::Object(entries)) => _ = entries.insert(key.to_owned(), secret),
                // Their places are in order: a list has few items.
                Some(Value::Array(items)) => items.push(secret),
                _ => {}
            },
        }
    }
    settings
}

/// Scheme, host and database of a URL: nothing that could be a secret.
fn location(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}{}", url.scheme(), url.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn object(value: &Value) -> Settings {
        value.as_object().unwrap().clone()
    }

    fn places(kind: Kind, settings: &Value) -> Vec<String> {
        match read(kind, object(settings)) {
            Ok(_) => Vec::new(),
            Err(FormError::Misplaced(error)) => vec![format!("? {}", error.path())],
            Err(FormError::Faults(faults)) => faults.into_iter().map(|fault| fault.0).collect(),
        }
    }

    #[test]
    fn each_kind_takes_its_own_fields_and_names_the_place_of_a_fault() {
        let many: Map<String, Value> = (0..65).map(|n| (format!("A{n}"), json!("x"))).collect();
        for (kind, settings, expected) in [
            (Kind::Sql, json!({"url": "postgres://u:p@h:5/d?sslmode=require"}), vec![]),
            (Kind::Sql, json!({"url": "mysql://u:p@h/d"}), vec!["url"]),
            (Kind::Sql, json!({"url": "postgres://h:x"}), vec!["url"]),
            (Kind::Sql, json!({"url": 1}), vec!["? url"]),
            (Kind::Sql, json!({}), vec!["? ."]),
            (Kind::Sql, json!({"url": "sqlite://x", "user": "u"}), vec!["? user"]),
            (Kind::ObjectStore, json!({"service": "fs", "options": {"root": "/x"}}), vec![]),
            (Kind::ObjectStore, json!({"service": "s4"}), vec!["service"]),
            (
                Kind::ObjectStore,
                json!({"service": "fs", "options": {"a.b": "x", "root": ""}}),
                vec!["options.root", "options.a.b"],
            ),
            (
                Kind::ObjectStore,
                json!({"service": "s3", "options": {"endpoint": "http://u:p@h"}}),
                vec!["options.bucket", "options.region", "options", "options.endpoint"],
            ),
            (Kind::Http, json!({"base_url": "https://h", "headers": many}), vec!["headers"]),
            (Kind::Http, json!({"base_url": "https://h/p", "headers": {"A-b": "c"}}), vec![]),
            (
                Kind::Http,
                json!({"base_url": "https://u:p@h/", "headers": {"a b": "c", "d": "e\n"}}),
                vec!["base_url", "headers.a b", "headers.d", "headers.d"],
            ),
            (
                Kind::Http,
                json!({"base_url": "https://h", "signing_secrets": ["whsec_x", SIGNING, "x"]}),
                vec!["signing_secrets", "signing_secrets[0]", "signing_secrets[2]"],
            ),
            (
                Kind::Http,
                json!({"base_url": "https://h", "signing_secrets": [SIGNING, SIGNING]}),
                vec![],
            ),
            (Kind::Http, json!({"base_url": "file:///etc/passwd"}), vec!["base_url"]),
            (Kind::Http, json!({"base_url": "http://h/?key=secret"}), vec!["base_url"]),
            (Kind::Llm, json!({"provider": "openai", "model": "m", "api_key": "k"}), vec![]),
            (
                Kind::Llm,
                json!({"provider": "Open AI", "model": "", "api_key": "", "base_url": "x"}),
                vec!["base_url", "provider", "model", "api_key"],
            ),
        ] {
            assert_eq!(places(kind, &settings), expected, "{settings}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_the_whole_comes_back() {
        for (kind, settings, secrets) in [
            (Kind::Sql, json!({"url": "postgres://u:canary@h:1/d?password=canary"}), vec!["url"]),
            (
                Kind::ObjectStore,
                json!({"service": "gcs", "options": {"root": "/x", "bucket": "b", "token": "canary"}}),
                vec!["options.token"],
            ),
            (
                Kind::Http,
                json!({"base_url": "http://h", "headers": {"A.b": "canary", "C": "canary"},
                    "signing_secrets": ["canary-2", "canary-1"]}),
                vec!["headers.A.b", "headers.C", "signing_secrets.0", "signing_secrets.1"],
            ),
            (
                Kind::Llm,
                json!({"provider": "p", "model": "m", "api_key": "canary"}),
                vec!["api_key"],
            ),
        ] {
            let (public, sealed) = part(kind, object(&settings));
            assert!(!Value::from(public.clone()).to_string().contains("canary"), "{public:?}");
            assert_eq!(sealed.keys().collect::<Vec<_>>(), secrets);
            assert_eq!(Value::from(whole(public, &sealed)), settings);
        }
        let (public, _) = part(Kind::Sql, object(&json!({"url": "postgres://u:p@h:1/d?x=y"})));
        assert_eq!(public[LOCATION], "postgres://h:1/d");
    }
}
