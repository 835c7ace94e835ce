//! `write_object`: writes the input as one object of an object store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opendal::{ErrorKind, Operator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::rendering::{self, Renderer};
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::connections::{Kind, object_store};

/// Bytes of a path; what S3 allows.
const MAX_PATH_BYTES: usize = 1024;

/// Bytes of one part of a path; what file systems allow.
const MAX_SEGMENT_BYTES: usize = 255;

/// Time for the whole object, with all retries.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Time to take back what was written of an object that failed. Less than the
/// grace that steps are given after a cancel.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of one part of a large object. S3 takes 5 MiB and more.
const PART_BYTES: usize = 8 * 1024 * 1024;

const PARTS_AT_ONCE: usize = 4;

/// Parameters of `write_object`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of a connection of kind `object_store`.
    connection: String,
    /// A minijinja template of the object's path, with the variables of the
    /// step `template`. An object that is there already is replaced.
    path: String,
    /// How the input is written.
    #[serde(default)]
    format: Format,
}

/// How the input is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// As one JSON value.
    #[default]
    Json,
    /// Each item of an array as JSON on a line of its own.
    JsonLines,
    /// A string as it is, in UTF-8.
    Text,
}

/// The step kind `write_object`.
pub struct WriteObject {
    connection: String,
    path: Arc<Renderer>,
    format: Format,
}

impl StepKind for WriteObject {
    const NAME: &'static str = "write_object";
    const SUMMARY: &'static str = "Writes the input as one object of an object store.";
    const REFERENCE: Reference = Reference {
        about: "A path is relative, has at most 1024 bytes and 255 in each part, and does not climb with `..`. Put what differs for each document into it, such as `{{ execution_id }}/{{ document.hash }}.json`.",
        output: r#"`{"connection", "path", "bytes"}`."#,
        errors: &[
            ("template_failed", "the path cannot be made"),
            ("object_path_invalid", "the path is none that may be written"),
            ("connection_unknown", "there is no connection of that name and kind"),
            ("connection_unusable", "the connection cannot be used as it is written"),
            (
                "blocked_destination",
                "the address of a connection that the organisation stored leads inside",
            ),
            ("destination_refused", "the store denies access, or has no such bucket"),
            ("destination_unavailable", "the store is away or too slow; tried again"),
        ],
        example: r#"{"connections": {"archive": {"kind": "object_store", "service": "fs", "options": {"root": "{folder}"}}},
 "with": {"connection": "archive", "path": "totals/{{ input.number }}.json"},
 "input": {"number": "A-1", "total": 12.5},
 "output": {"connection": "archive", "path": "totals/A-1.json", "bytes": 29}}"#,
    };
    const CONNECTION: Option<Kind> = Some(Kind::ObjectStore);
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let path = Arc::new(Renderer::compile("path", params.path)?);
        Ok(Self { connection: params.connection, path, format: params.format })
    }
}

#[async_trait]
impl Step for WriteObject {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let operator = self.operator(context)?;
        let (renderer, format) = (Arc::clone(&self.path), self.format);
        let (input, data) = (Arc::clone(&context.input), Arc::clone(&context.data));
        let (path, bytes) = offload(move || {
            let path = renderer.render(rendering::variables(&input, &data), MAX_PATH_BYTES)?;
            Ok((normalise(&path)?, encode(&input, format)?))
        })
        .await?;
        let size = bytes.len();
        write(&operator, &path, bytes, &context.cancel).await?;
        Ok(json!({"connection": self.connection, "path": path, "bytes": size}))
    }
}

impl WriteObject {
    fn operator(&self, context: &StepContext) -> Result<Operator, StepError> {
        let services = &context.services;
        let org_id = &context.scope.org_id;
        object_store::operator(&services.connections, &services.outbound, org_id, &self.connection)
            .map_err(|error| StepError::permanent(error.code(), error.to_string()))
    }
}

/// Writes an object, in parts if it is large.
async fn write(
    operator: &Operator,
    path: &str,
    bytes: Vec<u8>,
    cancel: &CancellationToken,
) -> Result<(), StepError> {
    let opening = operator.writer_with(path).chunk(PART_BYTES).concurrent(PARTS_AT_ONCE);
    let mut writer = opening.await.map_err(|error| failure(&error))?;
    let writing = tokio::time::timeout(TIME_LIMIT, async {
        writer.write(bytes).await?;
        writer.close().await
    });
    let written = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(StepError::cancelled()),
        written = writing => match written {
            Ok(written) => written.map(drop).map_err(|error| failure(&error)),
            Err(_) => Err(unavailable()),
        },
    };
    if written.is_err() {
        // A store keeps the parts of an object, and bills them, until they
        // are taken back.
        _ = tokio::time::timeout(ABORT_LIMIT, writer.abort()).await;
    }
    written
}

fn encode(input: &Value, format: Format) -> Result<Vec<u8>, StepError> {
    let line = |value: &Value| format!("{value}\n");
    match (format, input) {
        (Format::Json, value) => Ok(value.to_string().into_bytes()),
        (Format::JsonLines, Value::Array(items)) => {
            Ok(items.iter().map(line).collect::<String>().into_bytes())
        }
        (Format::JsonLines, value) => Ok(line(value).into_bytes()),
        (Format::Text, Value::String(text)) => Ok(text.clone().into_bytes()),
        (Format::Text, _) => {
            Err(StepError::bad_input("format text takes a string; use json or a template before"))
        }
    }
}

/// Makes one form of a path: relative, without empty parts. A part of a path
/// can come from a document, so what would climb out is refused.
fn normalise(path: &str) -> Result<String, StepError> {
    let refuse = |detail: String| StepError::permanent("object_path_invalid", detail);
    if path.contains(char::is_control) || path.contains('\\') {
        return Err(refuse("a path has no control characters and no backslash".to_owned()));
    }
    let segments: Vec<_> =
        path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    if segments.is_empty() || path.ends_with('/') {
        return Err(refuse("the path names no object".to_owned()));
    }
    if segments.contains(&"..") {
        return Err(refuse("a path does not climb with `..`".to_owned()));
    }
    if segments.iter().any(|segment| segment.len() > MAX_SEGMENT_BYTES) {
        return Err(refuse(format!("a part of the path is longer than {MAX_SEGMENT_BYTES} bytes")));
    }
    Ok(segments.join("/"))
}

fn unavailable() -> StepError {
    StepError::transient("destination_unavailable", "the object store is away or too slow")
}

/// OpenDAL's own text can hold addresses and options, so only its kind counts.
fn failure(error: &opendal::Error) -> StepError {
    if object_store::is_blocked(error) {
        let detail = "the connection's address is not one that this server lets connections reach";
        return StepError::permanent("blocked_destination", detail);
    }
    match error.kind() {
        ErrorKind::PermissionDenied => {
            StepError::permanent("destination_refused", "the object store denies access")
        }
        ErrorKind::NotFound => {
            StepError::permanent("destination_refused", "the bucket or folder is not there")
        }
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            let detail = "a part of the path is a folder where an object should be, or the reverse";
            StepError::permanent("object_path_invalid", detail)
        }
        // So OpenDAL says that S3 has no such bucket.
        ErrorKind::ConfigInvalid => StepError::permanent(
            "destination_refused",
            "the bucket is not there, or the store does not take the connection's options",
        ),
        ErrorKind::Unsupported => StepError::permanent(
            "connection_unusable",
            "the connection's service cannot write with its options",
        ),
        _ => unavailable(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::connections::Connection;
    use crate::steps::testing;

    fn folder_connection(root: &Path) -> Connection {
        let root = root.to_str().unwrap().to_owned();
        Connection::ObjectStore {
            service: "fs".to_owned(),
            options: [("root".to_owned(), root.into())].into(),
        }
    }

    async fn write(root: &Path, with: Value, input: Value) -> Result<Value, StepError> {
        let step = testing::build("write_object", with).unwrap();
        let connections = [("archive", folder_connection(root))];
        step.run(&testing::context_with(input, json!({"steps": {"a": 7}}), connections)).await
    }

    #[tokio::test]
    async fn an_object_is_written_and_written_again_to_the_same_path() {
        let root = tempfile::tempdir().unwrap();
        let with =
            json!({"connection": "archive", "path": "/out//{{ steps.a }}/{{ input.n }}.json"});
        for total in [10, 2] {
            let input = json!({"n": "x", "total": total});
            let output = write(root.path(), with.clone(), input.clone()).await.unwrap();
            let text = std::fs::read_to_string(root.path().join("out/7/x.json")).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), input);
            let expected =
                json!({"connection": "archive", "path": "out/7/x.json", "bytes": text.len()});
            assert_eq!(output, expected);
        }
        assert_eq!(std::fs::read_dir(root.path().join(".millrace")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn lines_and_text_have_their_own_forms() {
        let root = tempfile::tempdir().unwrap();
        for (format, input, expected) in [
            ("json_lines", json!([{"a": "x\ny"}, 2]), "{\"a\":\"x\\ny\"}\n2\n"),
            ("json_lines", json!({"a": 1}), "{\"a\":1}\n"),
            ("text", json!("é\n"), "é\n"),
        ] {
            let with = json!({"connection": "archive", "path": "o", "format": format});
            write(root.path(), with, input).await.unwrap();
            assert_eq!(std::fs::read_to_string(root.path().join("o")).unwrap(), expected);
        }
        let with = json!({"connection": "archive", "path": "o", "format": "text"});
        assert_eq!(write(root.path(), with, json!({})).await.unwrap_err().code, "bad_step_input");
    }

    #[tokio::test]
    async fn a_path_cannot_leave_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        for name in ["../x", "a/../../x", "..", "", "/", "a/", "a\0b", "..\\x", "a\nb"] {
            let with = json!({"connection": "archive", "path": "{{ input.name }}"});
            let error = write(&root, with, json!({"name": name})).await.unwrap_err();
            assert_eq!(error.code, "object_path_invalid", "{name:?}");
        }
        let with = json!({"connection": "archive", "path": "{{ input.name }}"});
        let long = write(&root, with.clone(), json!({"name": "a/".repeat(600)})).await;
        assert_eq!(long.unwrap_err().code, "template_failed");
        let absolute = write(&root, with, json!({"name": "/etc/x"})).await.unwrap();
        assert_eq!(absolute["path"], "etc/x");
        assert!(root.join("etc/x").exists());
        let names: Vec<_> = std::fs::read_dir(outer.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[tokio::test]
    async fn connections_that_are_missing_or_unusable_are_told_apart_without_secrets() {
        let step = testing::build("write_object", json!({"connection": "c", "path": "x"})).unwrap();
        let run = async |connections: Vec<(&'static str, Connection)>| {
            step.run(&testing::context_with(json!(1), json!({}), connections)).await.unwrap_err()
        };
        assert_eq!(run(vec![]).await.code, "connection_unknown");
        let sql = Connection::Sql { url: "sqlite::memory:".into() };
        assert_eq!(run(vec![("c", sql)]).await.code, "connection_unknown");
        let odd = Connection::ObjectStore {
            service: "s3cr3t".to_owned(),
            options: [("password".to_owned(), "s3cr3t".into())].into(),
        };
        let error = run(vec![("c", odd)]).await;
        assert_eq!(error.code, "connection_unusable");
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }

    #[tokio::test]
    async fn a_cancelled_execution_writes_nothing_more() {
        let root = tempfile::tempdir().unwrap();
        let step = testing::build("write_object", json!({"connection": "archive", "path": "x"}));
        let connections = [("archive", folder_connection(root.path()))];
        let context = testing::context_with(json!(1), json!({}), connections);
        context.cancel.cancel();
        assert_eq!(step.unwrap().run(&context).await, Err(StepError::cancelled()));
        assert!(!root.path().join("x").exists());
    }
}
