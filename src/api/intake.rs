//! How a submission comes in: JSON or multipart, its documents straight into
//! the document store.

mod form;
mod json;

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use apistos::paths::{MediaType, RequestBody};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, Schema};
use schemars::r#gen::SchemaGenerator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use uuid::Uuid;

use super::State;
use super::answer::{definitions, named};
use super::body;
use crate::documents::store::Stored;
use crate::documents::{DocumentStore, StoreError};
use crate::engine::plan::Revision;
use crate::engine::submission::Request;
use crate::error::{ApiError, ApiResult, Code};
use crate::steps::DocumentRef;

/// Longest wait for a result within a submission, in seconds.
pub const MAX_TIMEOUT: i32 = 300;

/// Characters of a document's name that are kept.
const MAX_NAME: usize = 255;

/// A submission as it came in.
#[derive(Debug, Default)]
pub struct Intake {
    /// Everything but documents.
    pub request: Request,
    /// The documents, stored already.
    pub documents: Vec<DocumentRef>,
    /// Seconds to wait for the result; 0 or less for none.
    pub timeout: i32,
}

/// The body of a submission, not read yet: admission comes first.
pub struct Submission {
    request: HttpRequest,
    payload: Payload,
}

/// What bounds the reading of one submission.
struct Bounds {
    max_json_bytes: usize,
    max_field_bytes: usize,
    max_file_bytes: u64,
    max_files: usize,
    idle: Duration,
}

impl Submission {
    /// Reads it within the deployment's limits.
    ///
    /// # Errors
    /// Names the place and the cure. Documents that were stored before stay
    /// without a reference and are swept up.
    pub async fn read(self, revision: &Revision) -> ApiResult<Intake> {
        let state = self.request.app_data::<Data<State>>();
        let state = state.ok_or_else(|| ApiError::new(Code::Internal))?.clone();
        let settings = &revision.settings;
        let bounds = Bounds {
            max_json_bytes: state.config.max_json_bytes,
            max_field_bytes: state.config.max_field_bytes,
            max_file_bytes: settings.max_file_bytes,
            max_files: settings.max_files as usize,
            idle: Duration::from_secs(state.config.body_idle_seconds),
        };
        let limit = Duration::from_secs(settings.request_timeout_seconds.into());
        let store = state.engine.context().services.documents.clone();
        let media = body::media_type(&self.request)?;
        let reading = async {
            match media.as_str() {
                "application/json" => {
                    json::read(&self.request, self.payload, &bounds, &store).await
                }
                "multipart/form-data" => {
                    form::read(&self.request, self.payload, &bounds, &store).await
                }
                _ => Err(ApiError::new(Code::UnsupportedMediaType)),
            }
        };
        let intake = tokio::time::timeout(limit, reading)
            .await
            .map_err(|_| ApiError::new(Code::RequestTimeout))??;
        check(&intake)?;
        Ok(intake)
    }
}

fn check(intake: &Intake) -> ApiResult<()> {
    if intake.documents.is_empty() && intake.request.input_data.is_null() {
        return Err(ApiError::new(Code::NothingToDo));
    }
    if !(-1..=MAX_TIMEOUT).contains(&intake.timeout) {
        let detail = format!("from -1 to {MAX_TIMEOUT} seconds");
        return Err(ApiError::at(Code::InvalidValue, "timeout", detail));
    }
    for (name, value) in
        [("parameters", &intake.request.parameters), ("custom_data", &intake.request.custom_data)]
    {
        if !matches!(value, Value::Null | Value::Object(_)) {
            return Err(ApiError::at(Code::InvalidValue, name, "a JSON object"));
        }
    }
    Ok(())
}

impl FromRequest for Submission {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

impl ApiComponent for Submission {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        let mut schemas = definitions::<json::JsonSubmission>();
        schemas.extend(definitions::<form::FormSubmission>());
        schemas.extend(named::<form::FormSubmission>());
        schemas
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        named::<json::JsonSubmission>()
    }

    fn request_body() -> Option<RequestBody> {
        let media = |name: &str| MediaType {
            schema: Some(ReferenceOr::Reference { _ref: format!("#/components/schemas/{name}") }),
            ..MediaType::default()
        };
        Some(RequestBody {
            content: BTreeMap::from([
                ("application/json".to_owned(), media("JsonSubmission")),
                ("multipart/form-data".to_owned(), media("FormSubmission")),
            ]),
            required: Some(true),
            ..RequestBody::default()
        })
    }
}

/// The two forms of a submission, JSON and multipart, for a document in another
/// dialect than the whole API's. A form has no null.
pub(super) fn described(json: &mut SchemaGenerator, form: &mut SchemaGenerator) {
    json.subschema_for::<json::JsonSubmission>();
    form.subschema_for::<form::FormSubmission>();
}

fn document(name: &str, position: usize, mime_type: Option<String>, stored: Stored) -> DocumentRef {
    DocumentRef {
        id: Uuid::now_v7(),
        name: clean_name(name, position),
        hash: stored.hash,
        size: stored.size,
        mime_type,
    }
}

/// A name that is safe to show and never a path: what stands after the last
/// separator, without control characters.
fn clean_name(name: &str, position: usize) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|char| !char.is_control()).take(MAX_NAME).collect();
    match clean.trim() {
        "" | "." | ".." => format!("document-{}", position + 1),
        name => name.to_owned(),
    }
}

fn too_many_files(bounds: &Bounds) -> ApiError {
    let detail = format!("A submission may have {} documents.", bounds.max_files);
    ApiError::with_detail(Code::PayloadTooLarge, detail)
}

fn file_too_large(bounds: &Bounds, place: String) -> ApiError {
    let detail = format!("A document may have {} bytes.", bounds.max_file_bytes);
    ApiError::at(Code::PayloadTooLarge, place, detail)
}

fn store_away(error: &StoreError) -> ApiError {
    tracing::warn!(%error, "the document store refused a document");
    ApiError::new(Code::StoreUnavailable)
}

/// Gives an upload up together with the request it came in.
async fn abandon<T>(upload: crate::documents::Upload, error: ApiError) -> ApiResult<T> {
    upload.abort().await;
    Err(error)
}

async fn put(store: &DocumentStore, bytes: Vec<u8>) -> ApiResult<Stored> {
    store.put(bytes.into()).await.map_err(|error| store_away(&error))
}

#[cfg(test)]
mod tests {
    use super::clean_name;

    #[test]
    fn a_document_name_is_never_a_path_and_never_empty() {
        assert_eq!(clean_name("../../etc/passwd", 0), "passwd");
        assert_eq!(clean_name(r"C:\docs\a.pdf", 0), "a.pdf");
        assert_eq!(clean_name("a\r\nb\0.pdf", 0), "ab.pdf");
        assert_eq!(clean_name("", 0), "document-1");
        assert_eq!(clean_name("x/..", 4), "document-5");
        assert_eq!(clean_name(&"ä".repeat(300), 0).chars().count(), 255);
    }
}
