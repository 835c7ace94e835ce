//! One attempt to tell a receiver.

use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::payload::{payload, webhook_id};
use super::receiver;
use crate::config::WebhooksConfig;
use crate::connections::{Connection, signing};
use crate::engine::context::Context;
use crate::outbound;
use crate::store::webhooks::{Attempted, Telling, Then};

/// Bytes of an answer that are kept.
const KEPT: usize = 1024;

/// Bytes of an answer that are read: a secret that begins in what is kept
/// ends in what is read, so that it is recognised.
const READ: usize = 16_384;

/// What an answer said.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    text: String,
}

/// Makes an attempt, within its time limit.
pub(super) async fn make(context: &Context, telling: Telling) -> Attempted {
    let config = &context.upkeep.webhooks;
    let started = Instant::now();
    let told = tell(context, &telling).await;
    let delivery = &telling.delivery;
    let then = match &told {
        Ok(answer) => follows(config, delivery.tries, answer.status, answer.retry_after),
        Err(_) => again(config, delivery.tries, None),
    };
    let error = told.as_ref().err().copied();
    tracing::info!(
        delivery = %delivery.id,
        execution_id = %delivery.execution_id,
        attempt = delivery.attempts,
        status = told.as_ref().ok().map(|answer| answer.status.as_u16()),
        error,
        "webhook attempted"
    );
    let (http_status, answer) = match told {
        Ok(answer) => (Some(i32::from(answer.status.as_u16())), Some(answer.text)),
        Err(_) => (None, None),
    };
    Attempted {
        delivery_id: delivery.id,
        number: delivery.attempts,
        lease: delivery.next_attempt_at,
        duration_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        http_status,
        error,
        answer,
        then,
    }
}

/// Tells the receiver; the code of the reason if there is no answer.
async fn tell(context: &Context, telling: &Telling) -> Result<Answer, &'static str> {
    let connection = receiver(context, telling).ok_or("connection_unknown")?;
    let Connection::Http { base_url, headers, signing_secrets } = connection.as_ref() else {
        return Err("connection_unknown");
    };
    let id = webhook_id(telling.delivery.id);
    let timestamp = Utc::now().timestamp();
    let body = payload(telling, &context.upkeep.public_url).to_string();
    let signatures = signing::signatures(signing_secrets, &id, timestamp, &body)
        .ok_or("connection_without_secret")?;
    let url: Url = base_url.parse().map_err(|_| "request_failed")?;
    let services = &context.services;
    let client =
        match services.connections.is_declared(&telling.org_id, &telling.delivery.connection) {
            true => services.outbound.open(),
            false => services.outbound.guarded(&url).map_err(|_| "blocked_destination")?,
        };
    // Ours go over these, so that no connection passes for a signature.
    let mut sent = outbound::headers::of_connection(headers).ok_or("request_failed")?;
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signatures),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| "request_failed")?;
        sent.insert(HeaderName::from_static(name), value);
    }
    sent.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let limit = Duration::from_secs(context.upkeep.webhooks.timeout_seconds.into());
    let request = client.post(url).headers(sent).body(body).timeout(limit);
    let response = request.send().await.map_err(|error| code(&error))?;
    let secrets: Vec<&SecretString> = headers.values().chain(signing_secrets).collect();
    Ok(read(response, &secrets).await)
}

/// Why there was no answer. The error's own text may tell an address.
fn code(error: &reqwest::Error) -> &'static str {
    if outbound::is_blocked(error) {
        "blocked_destination"
    } else if error.is_timeout() {
        "timeout"
    } else if outbound::has_source::<rustls::Error>(error) {
        "tls_failed"
    } else if error.is_connect() {
        "connect_failed"
    } else {
        "request_failed"
    }
}

/// Reads the beginning of an answer. Its status decides: a body that does not
/// come in time, or breaks off, is as long as it is.
async fn read(mut response: Response, secrets: &[&SecretString]) -> Answer {
    let (status, retry_after) =
        (response.status(), outbound::headers::retry_after(response.headers(), Utc::now()));
    let mut body = Vec::new();
    while body.len() < READ
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    body.truncate(READ);
    Answer { status, retry_after, text: shown(body, secrets) }
}

/// What is kept of an answer: no secret that the receiver sent back, and no
/// character that does something.
fn shown(mut body: Vec<u8>, secrets: &[&SecretString]) -> String {
    for secret in secrets {
        mask(&mut body, secret.expose_secret().as_bytes());
    }
    body.truncate(KEPT);
    let mut shown = String::new();
    for character in String::from_utf8_lossy(&body).chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

/// Puts `*` in the place of each byte of `secret`, so that all else stays
/// where it is.
fn mask(body: &mut [u8], secret: &[u8]) {
    if secret.is_empty() {
        return;
    }
    let mut start = 0;
    while let Some(window) = body.get_mut(start..start + secret.len()) {
        if window == secret {
            window.fill(b'*');
        }
        start += 1;
    }
}

/// What follows an answer. `tries` counts this attempt.
fn follows(
    config: &WebhooksConfig,
    tries: i32,
    status: StatusCode,
    retry_after: Option<Duration>,
) -> Then {
    match status {
        status if status.is_success() => Then::Delivered,
        // By the specification: the receiver wants no more.
        StatusCode::GONE => Then::GiveUp,
        _ => again(config, tries, retry_after),
    }
}

/// The next pause of the schedule, or a longer one that the receiver asks for.
fn again(config: &WebhooksConfig, tries: i32, retry_after: Option<Duration>) -> Then {
    let tried = usize::try_from(tries).unwrap_or(1).saturating_sub(1);
    let Some(pause) = config.retry_seconds.get(tried) else { return Then::GiveUp };
    let pause = u64::from(*pause) * 1000;
    // Receivers that were away are not told all at once when they are back.
    let jitter = pause / 10 * u64::from(getrandom::u32().unwrap_or_default() % 1024) / 1024;
    let most = u64::from(config.retry_after_seconds) * 1000;
    let asked = retry_after.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let pause = (pause + jitter).max(asked.min(most));
    Then::Again(i64::try_from(pause).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WebhooksConfig {
        WebhooksConfig {
            retry_seconds: vec![10, 1000],
            retry_after_seconds: 500,
            timeout_seconds: 1,
            max_in_flight: 1,
            max_per_receiver: 1,
        }
    }

    fn pause(then: Then) -> i64 {
        match then {
            Then::Again(pause) => pause,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_2xx_is_delivered_a_410_ends_it_and_all_else_follows_the_schedule() {
        let after =
            |tries, status| follows(&config(), tries, StatusCode::from_u16(status).unwrap(), None);
        for status in [200, 201, 204, 299] {
            assert_eq!(after(1, status), Then::Delivered);
        }
        assert_eq!(after(1, 410), Then::GiveUp);
        for status in [301, 307, 400, 401, 404, 429, 500, 503] {
            assert!((10_000..=11_000).contains(&pause(after(1, status))), "{status}");
            assert!((1_000_000..=1_100_000).contains(&pause(after(2, status))), "{status}");
            assert_eq!(after(3, status), Then::GiveUp, "{status}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_within_bounds_and_for_no_shorter_one() {
        let asked =
            |tries, seconds| pause(again(&config(), tries, Some(Duration::from_secs(seconds))));
        assert_eq!(asked(1, 60), 60_000);
        assert_eq!(asked(1, u64::MAX), 500_000);
        assert!(asked(1, 1) >= 10_000);
        assert!(asked(2, 60) >= 1_000_000);
        assert_eq!(again(&config(), 3, Some(Duration::from_secs(60))), Then::GiveUp);
    }

    #[test]
    fn an_answer_is_kept_short_without_secrets_and_without_control_characters() {
        let secret = SecretString::from("s3cr3t");
        let kept = |body: &[u8]| shown(body.to_vec(), &[&secret]);
        assert_eq!(kept(b"got s3cr3t, s3cr3t!"), "got ******, ******!");
        assert_eq!(kept(b"a\0b\x1b[31m\nc\xff"), "a\\u{0}b\\u{1b}[31m\nc\u{fffd}");
        assert_eq!(kept(&[b'x'; 5000]).len(), KEPT);
        // One that begins at the edge of what is kept does not show its beginning.
        let edge = [&[b'x'; KEPT - 3][..], b"s3cr3t"].concat();
        assert!(kept(&edge).ends_with("xxx***"));
    }
}
