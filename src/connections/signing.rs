//! Signatures by the Standard Webhooks specification, version 1.0.0
//! (<https://github.com/standard-webhooks/standard-webhooks>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret: what the specification allows.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The form of a secret, as a pattern.
pub const FORM: &str = "^whsec_(([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?|([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/][AQgw]==)$";

/// What would be a secret.
pub const CURE: &str = "`whsec_` and 24 to 64 bytes in base64 (openssl rand -base64 32)";

/// Secrets of one receiver at a time: two while one takes the other's place.
pub const MAX_SECRETS: usize = 2;

fn key(secret: &SecretString) -> Option<Vec<u8>> {
    let text = secret.expose_secret().strip_prefix(PREFIX)?;
    STANDARD.decode(text).ok().filter(|key| BYTES.contains(&key.len()))
}

/// Whether this can sign.
pub fn is_secret(secret: &SecretString) -> bool {
    key(secret).is_some()
}

/// The header `webhook-signature`: one signature by each secret. `timestamp`
/// is in seconds since 1970. None if there is no secret that can sign.
pub fn signatures(
    secrets: &[SecretString],
    id: &str,
    timestamp: i64,
    body: &str,
) -> Option<String> {
    let sign = |secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).ok()?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    let signed: Vec<String> = secrets.iter().filter_map(sign).collect();
    (!signed.is_empty()).then(|| signed.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_reference_libraries() {
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()];
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signatures(&secrets, id, 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_of_two_secrets_signs() {
        let secret =
            |byte: u8| SecretString::from(format!("whsec_{}", STANDARD.encode([byte; 24])));
        let both = signatures(&[secret(1), secret(2)], "msg_a", 1, "{}").unwrap();
        let alone = [secret(1), secret(2)].map(|one| signatures(&[one], "msg_a", 1, "{}").unwrap());
        assert_eq!(both, alone.join(" "));
        assert_ne!(alone[0], alone[1]);
        assert_eq!(signatures(&[], "msg_a", 1, "{}"), None);
    }

    #[test]
    fn a_secret_has_24_to_64_bytes_and_the_pattern_says_the_same() {
        let pattern = regex::Regex::new(FORM).unwrap();
        let of = |length: usize| format!("whsec_{}", STANDARD.encode(vec![7; length]));
        for (text, expected) in [
            (of(23), false),
            (of(24), true),
            (of(25), true),
            (of(26), true),
            (of(62), true),
            (of(63), true),
            (of(64), true),
            (of(65), false),
            (of(32).replace("whsec_", ""), false),
            (format!("{}=", of(24)), false),
            (of(24).replace('B', "-"), false),
        ] {
            assert_eq!(is_secret(&text.clone().into()), expected, "{text}");
            assert_eq!(pattern.is_match(&text), expected, "{text}");
        }
    }
}
