//! Idempotency keys: a submission that is sent again is accepted once.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::submission::Request;
use crate::documents::Hash;
use crate::store::committer::KeyRow;

/// Characters of a key.
pub const MAX_KEY: usize = 255;

/// A name that a caller gives to a submission, to send it again without
/// starting it again.
pub struct Key(String);

impl Key {
    /// Takes 1 to [`MAX_KEY`] visible ASCII characters.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key =
            (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_key.then(|| Self(text.to_owned()))
    }

    /// What is stored instead of the key. It names another submission in each
    /// deployment, the same one under each of the deployment's API keys.
    fn hash(&self, deployment_id: Uuid) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(deployment_id.as_bytes()).update(self.0.as_bytes());
        hasher.finalize().as_bytes().to_vec()
    }
}

/// What makes a document the same one when it is submitted again.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Identity {
    /// It comes along: name, content, declared type.
    Sent(String, Hash, Option<String>),
    /// It is fetched, whatever is there by then.
    #[expect(missing_docs, reason = "as a submission names them")]
    Linked { url: String, name: Option<String>, mime_type: Option<String> },
}

/// A key, and what is submitted under it.
pub struct Keyed {
    key: Key,
    fingerprint: blake3::Hash,
}

impl Keyed {
    /// Takes note of what is submitted. Megabytes may be hashed: not for a
    /// thread that serves requests.
    ///
    /// # Errors
    /// If the request has no JSON form.
    pub fn new(
        key: Key,
        request: &Request,
        documents: &[Identity],
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { key, fingerprint: fingerprint(request, documents)? })
    }

    /// Whether a submission of this fingerprint is the same.
    pub(super) fn is_same(&self, fingerprint: &[u8]) -> bool {
        self.fingerprint.as_bytes() == fingerprint
    }

    /// The row that holds the key for an execution.
    pub(super) fn row(
        &self,
        deployment_id: Uuid,
        execution_id: Uuid,
        expires_at: DateTime<Utc>,
    ) -> KeyRow {
        KeyRow {
            hash: self.key.hash(deployment_id),
            fingerprint: self.fingerprint.as_bytes().to_vec(),
            execution_id,
            expires_at,
        }
    }
}

/// blake3 of what the execution is made of: the order of an object's members
/// does not count, that of documents does. A field at its default is left out,
/// so that a release with a new field still knows the submissions of the one
/// before.
fn fingerprint(
    request: &Request,
    documents: &[Identity],
) -> Result<blake3::Hash, serde_json::Error> {
    let mut fields = serde_json::to_value(request)?;
    let defaults = serde_json::to_value(Request::default())?;
    if let Value::Object(fields) = &mut fields {
        fields.retain(|name, value| defaults.get(name) != Some(value));
    }
    fields.sort_all_objects();
    Ok(blake3::hash(&serde_json::to_vec(&(fields, documents))?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(changes: Value) -> Request {
        serde_json::from_value(changes).unwrap()
    }

    fn document(name: &str, content: &str, mime_type: Option<&str>) -> Identity {
        let hash = blake3::hash(content.as_bytes()).into();
        Identity::Sent(name.into(), hash, mime_type.map(ToOwned::to_owned))
    }

    fn linked(url: &str, name: Option<&str>) -> Identity {
        Identity::Linked { url: url.into(), name: name.map(ToOwned::to_owned), mime_type: None }
    }

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        for key in ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", &"k".repeat(255)] {
            assert!(Key::parse(key).is_some(), "{key}");
        }
        for text in ["", "a b", " a", "a\t", "a\u{7f}", "ä", &"k".repeat(256)] {
            assert!(Key::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_names_another_submission_in_each_deployment() {
        let key = Key::parse("k").unwrap();
        assert_eq!(key.hash(Uuid::nil()), key.hash(Uuid::nil()));
        assert_ne!(key.hash(Uuid::nil()), key.hash(Uuid::max()));
    }

    #[test]
    fn the_order_of_members_does_not_count() {
        let one = request(json!({"input_data": {"a": 1, "b": {"c": [1, 2], "d": null}}}));
        let other: Request = serde_json::from_str(
            r#"{"tags": [], "input_data": {"b": {"d": null, "c": [1, 2]}, "a": 1}}"#,
        )
        .unwrap();
        assert_eq!(fingerprint(&one, &[]).unwrap(), fingerprint(&other, &[]).unwrap());
    }

    #[test]
    fn whatever_changes_the_execution_changes_the_fingerprint() {
        let base = request(json!({"input_data": {"a": [1, 2]}}));
        let documents = [document("a", "1", None), document("b", "2", None)];
        let mut seen = vec![fingerprint(&base, &documents).unwrap()];
        for change in [
            json!({}),
            json!({"input_data": {"a": [2, 1]}}),
            json!({"input_data": {"a": ["1", 2]}}),
            json!({"input_data": {"a": [1, 2], "b": null}}),
            json!({"parameters": {"a": [1, 2]}}),
            json!({"custom_data": {"a": [1, 2]}}),
            json!({"input_data": {"a": [1, 2]}, "tags": ["t"]}),
            json!({"input_data": {"a": [1, 2]}, "include_metadata": true}),
            json!({"input_data": {"a": [1, 2]}, "include_metrics": true}),
            json!({"input_data": {"a": [1, 2]}, "include_extracted_text": true}),
        ] {
            seen.push(fingerprint(&request(change), &documents).unwrap());
        }
        let (a, b) = (document("a", "1", None), document("b", "2", None));
        for documents in [
            vec![],
            vec![a.clone()],
            vec![b.clone(), a.clone()],
            vec![a.clone(), b.clone(), b],
            vec![a.clone(), document("c", "2", None)],
            vec![a.clone(), document("b", "3", None)],
            vec![a.clone(), document("b", "2", Some("text/plain"))],
            vec![linked("https://h/a", None)],
            vec![linked("https://h/b", None)],
            vec![linked("https://h/a", Some("a"))],
            vec![linked("https://h/a", None), a],
        ] {
            seen.push(fingerprint(&base, &documents).unwrap());
        }
        let count = seen.len();
        seen.sort_by_key(|hash| *hash.as_bytes());
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
