//! Names of things on the wire, and keys that no log can show.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PUBLIC_PREFIX: &str = "dep_";
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;

/// What a key opens, told by its first characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `unst_…`: calls one deployment.
    Deployment,
    /// `unstp_…`: manages one organisation.
    Platform,
}

impl KeyKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Deployment => "unst_",
            Self::Platform => "unstp_",
        }
    }
}

/// A whole key in clear. `Debug` and `Display` are redacted; only
/// [`Key::reveal`] shows it, once, to the one who made it.
#[derive(Clone)]
pub struct Key {
    kind: KeyKind,
    text: SecretString,
}

impl Key {
    /// Makes a key of 32 random bytes.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn generate(kind: KeyKind) -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let mut text = String::from(kind.prefix());
        text.push_str(&URL_SAFE_NO_PAD.encode(random));
        text.push_str(&checksum(&text));
        Ok(Self { kind, text: text.into() })
    }

    /// Takes a key that somebody presents, if its form and checksum are
    /// right. It may still be unknown.
    pub fn parse(text: &str) -> Option<Self> {
        let kind = [KeyKind::Platform, KeyKind::Deployment]
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))?;
        if text.len() != kind.prefix().len() + RANDOM_CHARS + CHECKSUM_CHARS || !text.is_ascii() {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM_CHARS);
        (checksum(body) == sum).then(|| Self { kind, text: text.to_owned().into() })
    }

    /// What the key opens.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// What is stored instead of the key.
    pub fn hash(&self) -> KeyHash {
        KeyHash(*blake3::hash(self.text.expose_secret().as_bytes()).as_bytes())
    }

    /// First characters, to recognise the key in a list.
    pub fn prefix(&self) -> String {
        self.text.expose_secret().chars().take(self.kind.prefix().len() + 4).collect()
    }

    /// Last four characters, to recognise the key in a list.
    pub fn last_four(&self) -> String {
        let text = self.text.expose_secret();
        text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned()
    }

    /// The key in clear. To be shown once, when it is made.
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[redacted]", self.kind.prefix())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// blake3 of a key: what the store and the registry know of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash[redacted]")
    }
}

/// Makes the public id of a deployment: `dep_` and 20 characters that say
/// nothing.
///
/// # Errors
/// If the operating system gives no randomness.
pub fn public_id() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; 15];
    getrandom::fill(&mut random)?;
    Ok(format!("{PUBLIC_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// Whether a text begins as a public id does. What does not may be a key.
pub fn is_public_id(text: &str) -> bool {
    text.starts_with(PUBLIC_PREFIX)
}

/// Makes an operator token: 43 characters of 32 random bytes.
///
/// # Errors
/// If the operating system gives no randomness.
pub fn operator_token() -> Result<SecretString, getrandom::Error> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random)?;
    Ok(format!("op_{}", URL_SAFE_NO_PAD.encode(random)).into())
}

/// CRC-32 of `body` as six base62 digits, most significant first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_parses_and_hashes_to_itself() {
        for kind in [KeyKind::Deployment, KeyKind::Platform] {
            let key = Key::generate(kind).unwrap();
            let parsed = Key::parse(key.reveal()).unwrap();
            assert_eq!(parsed.kind(), kind);
            assert_eq!(parsed.hash(), key.hash());
            assert_eq!(key.reveal().len(), kind.prefix().len() + 49);
        }
    }

    #[test]
    fn a_key_with_any_changed_character_does_not_parse() {
        let key = Key::generate(KeyKind::Deployment).unwrap();
        for place in 0..key.reveal().len() {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[place] = if bytes[place] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Key::parse(&changed).is_none(), "changed at {place}");
        }
        assert!(Key::parse("").is_none());
        assert!(Key::parse(&"ä".repeat(27)).is_none());
    }

    #[test]
    fn a_key_never_shows_itself_by_accident() {
        let key = Key::generate(KeyKind::Platform).unwrap();
        assert_eq!(format!("{key:?} {key}"), "unstp_[redacted] unstp_[redacted]");
    }
}
