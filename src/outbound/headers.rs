//! Headers of calls to the outside.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};

/// Headers that frame a message or say where it goes: nobody else sets them.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header belongs to the message itself.
pub fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(&name.as_str())
}

/// The headers of a connection, marked as secrets. Those that frame the
/// message are left out; none if one cannot be a header.
pub fn of_connection(headers: &BTreeMap<String, SecretString>) -> Option<HeaderMap> {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).ok()?;
        let mut value = HeaderValue::try_from(value.expose_secret()).ok()?;
        value.set_sensitive(true);
        if !is_framing(&name) {
            sent.insert(name, value);
        }
    }
    Some(sent)
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    (date.to_utc() - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-23T08:00:00Z").unwrap().to_utc();
        for (text, expected) in [
            ("120", Some(120)),
            ("Mon, 23 Nov 2026 08:01:00 GMT", Some(60)),
            ("Mon, 23 Nov 2026 07:00:00 GMT", None),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn a_connection_says_nothing_of_the_message_itself() {
        let headers = [("X-Key", "k"), ("Host", "inside"), ("Transfer-Encoding", "chunked")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into())).into();
        let sent = of_connection(&headers).unwrap();
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["x-key"]);
        assert!(sent["x-key"].is_sensitive());
    }
}
