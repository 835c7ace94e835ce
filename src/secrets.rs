//! Secrets at rest: sealed with XChaCha20-Poly1305, each under a random nonce
//! and bound to the place where it is kept.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::secret;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce: long enough to be drawn at random for ever.
const NONCE_BYTES: usize = 24;

/// What key ids are derived for, so that an id tells nothing of its key.
const ID_CONTEXT: &str = "Millrace 2026-11 id of a secrets key";

/// `[secrets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct SecretsConfig {
    #[serde(deserialize_with = "secret")]
    pub key: SecretString,
    pub key_file: PathBuf,
    pub previous_keys: Vec<SecretString>,
}

/// Why secrets cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A key is not 32 bytes in base64.
    #[error("{0} must be 32 bytes in base64, such as `openssl rand -base64 32` prints")]
    Form(String),
    /// The key file cannot be read or made.
    #[error("secrets.key_file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// There is no key to seal with.
    #[error("no secrets key")]
    NoKey,
    /// None of the keys is the one it was sealed with, or it was changed.
    #[error("a stored secret cannot be opened")]
    Unreadable,
    /// What is stored cannot be opened by the keys of this start.
    #[error(
        "{count} stored connections cannot be opened: set `secrets.key` (or restore \
         secrets.key_file) to the key they were sealed with, or list it in \
         `secrets.previous_keys`; if it is lost for good, delete them from the table `connections`"
    )]
    WrongKey {
        /// How many.
        count: usize,
    },
}

/// The keys of a server: one that seals, and others that only open.
pub struct Keyring {
    current: Option<Key>,
    previous: Vec<Key>,
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// Takes the keys from the settings, else from the key file. If neither
    /// is there, a key file is made if `may_make`.
    ///
    /// # Errors
    /// [`SecretsError`] names the setting.
    pub fn load(config: &SecretsConfig, may_make: bool) -> Result<Self, SecretsError> {
        let given = config.key.expose_secret();
        let current = if given.is_empty() {
            from_file(&config.key_file, may_make)?
        } else {
            Some(Key::parse(given, "secrets.key")?)
        };
        let previous = config.previous_keys.iter().enumerate().map(|(index, text)| {
            Key::parse(text.expose_secret(), &format!("secrets.previous_keys[{index}]"))
        });
        Ok(Self { current, previous: previous.collect::<Result<_, _>>()? })
    }

    /// A ring that can neither seal nor open.
    pub const fn empty() -> Self {
        Self { current: None, previous: Vec::new() }
    }

    /// Whether secrets can be sealed.
    pub const fn can_seal(&self) -> bool {
        self.current.is_some()
    }

    /// Seals a secret for `place`: only there it can be opened again.
    ///
    /// # Errors
    /// [`SecretsError::NoKey`], or no randomness.
    pub fn seal(&self, place: &str, secret: &str) -> Result<String, SecretsError> {
        let key = self.current.as_ref().ok_or(SecretsError::NoKey)?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| SecretsError::Randomness(error.to_string()))?;
        let payload = Payload { msg: secret.as_bytes(), aad: place.as_bytes() };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SecretsError::NoKey)?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(format!("{}:{}", key.id, STANDARD.encode(bytes)))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// [`SecretsError::Unreadable`].
    pub fn open(&self, place: &str, sealed: &str) -> Result<SecretString, SecretsError> {
        self.try_open(place, sealed).ok_or(SecretsError::Unreadable)
    }

    fn try_open(&self, place: &str, sealed: &str) -> Option<SecretString> {
        let (id, text) = sealed.split_once(':')?;
        let key = self.current.iter().chain(&self.previous).find(|key| key.id == id)?;
        let bytes = STANDARD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let opened = Zeroizing::new(key.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
        Some(std::str::from_utf8(&opened).ok()?.into())
    }

    /// Whether it was sealed with the key that seals now.
    pub fn is_current(&self, sealed: &str) -> bool {
        let id = sealed.split_once(':').map(|(id, _)| id);
        id.is_some() && id == self.current.as_ref().map(|key| key.id.as_str())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

impl Key {
    fn parse(text: &str, setting: &str) -> Result<Self, SecretsError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes)
            .map_err(|_| SecretsError::Form(setting.to_owned()))?;
        let hash = blake3::derive_key(ID_CONTEXT, &bytes);
        let id = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id, cipher })
    }
}

fn from_file(path: &Path, may_make: bool) -> Result<Option<Key>, SecretsError> {
    let failed = |error| SecretsError::File { path: path.to_owned(), error };
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                tracing::warn!(file = %path.display(), "others may read the secrets key: chmod 600");
            }
            Key::parse(&text, &format!("the key in {}", path.display())).map(Some)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Err(_) if !may_make => Ok(None),
        Err(_) => {
            let mut bytes = Zeroizing::new([0; KEY_BYTES]);
            getrandom::fill(bytes.as_mut())
                .map_err(|error| SecretsError::Randomness(error.to_string()))?;
            let text = Zeroizing::new(STANDARD.encode(bytes.as_ref()));
            write_private(path, &text).map_err(failed)?;
            tracing::info!(file = %path.display(), "made the key that seals secrets; back it up");
            Key::parse(&text, "secrets.key_file").map(Some)
        }
    }
}

/// On disk before anything that was sealed with it.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The process' mask can only have taken rights away, but not the owner's.
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(key: &str, previous: &[&str]) -> SecretsConfig {
        SecretsConfig {
            key: key.into(),
            key_file: "/nowhere/secrets.key".into(),
            previous_keys: previous.iter().map(|text| (*text).into()).collect(),
        }
    }

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn a_secret_opens_only_in_its_place_and_with_its_key() {
        let ring = Keyring::load(&config(&key(1), &[]), false).unwrap();
        let sealed = ring.seal("a", "secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_ne!(sealed, ring.seal("a", "secret").unwrap(), "every nonce is new");
        assert_eq!(ring.open("a", &sealed).unwrap().expose_secret(), "secret");
        assert!(ring.open("b", &sealed).is_err());
        let other = Keyring::load(&config(&key(2), &[]), false).unwrap();
        assert!(other.open("a", &sealed).is_err());
        let (id, text) = sealed.split_once(':').unwrap();
        let mut bytes = STANDARD.decode(text).unwrap();
        for place in [0, NONCE_BYTES, bytes.len() - 1] {
            bytes[place] ^= 1;
            assert!(ring.open("a", &format!("{id}:{}", STANDARD.encode(&bytes))).is_err());
            bytes[place] ^= 1;
        }
        for broken in ["", ":", &sealed[1..], &format!("{id}:"), &format!("{id}:AAAA")] {
            assert!(ring.open("a", broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_previous_key_opens_and_does_not_seal() {
        let old = Keyring::load(&config(&key(1), &[]), false).unwrap();
        let sealed = old.seal("a", "secret").unwrap();
        let ring = Keyring::load(&config(&key(2), &[&key(1)]), false).unwrap();
        assert_eq!(ring.open("a", &sealed).unwrap().expose_secret(), "secret");
        assert!(!ring.is_current(&sealed));
        assert!(ring.is_current(&ring.seal("a", "secret").unwrap()));
    }

    #[test]
    fn a_key_of_another_form_is_refused_by_its_setting_and_never_repeated() {
        for text in ["s3cr3t", "AAAA", &"A".repeat(100)] {
            let error = Keyring::load(&config(text, &[]), false).unwrap_err().to_string();
            assert!(error.starts_with("secrets.key must") && !error.contains(text), "{error}");
            let error = Keyring::load(&config(&key(1), &[text]), false).unwrap_err().to_string();
            assert!(error.starts_with("secrets.previous_keys[0] must"), "{error}");
        }
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/secrets.key");
        let config = SecretsConfig { key_file: path.clone(), ..config("", &[]) };
        assert!(!Keyring::load(&config, false).unwrap().can_seal());
        assert!(!path.exists());
        let sealed = Keyring::load(&config, true).unwrap().seal("a", "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Keyring::load(&config, true).unwrap();
        assert_eq!(again.open("a", &sealed).unwrap().expose_secret(), "secret");
    }
}
