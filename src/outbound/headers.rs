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

/// How long an answer asks to be left alone: `Retry-After` (RFC 9110 section
/// 10.2.3), in seconds or as a date, or the finer `retry-after-ms` of some
/// services.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let text = text(RETRY_AFTER.as_str())?;
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
    fn retry_after_is_seconds_or_a_date_or_milliseconds() {
        let now = DateTime::parse_from_rfc3339("2026-11-23T08:00:00Z").unwrap().to_utc();
        for (name, text, expected) in [
            ("retry-after", "120", Some(120_000)),
            ("retry-after", "Mon, 23 Nov 2026 08:01:00 GMT", Some(60_000)),
            ("retry-after", "Mon, 23 Nov 2026 07:00:00 GMT", None),
            ("retry-after", "-1", None),
            ("retry-after", "soon", None),
            ("retry-after-ms", "250", Some(250)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_millis()), expected, "{text}");
        }
    }
}
