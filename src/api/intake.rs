//! How a submission comes in: JSON or multipart, its documents straight into
//! the document store.

mod checks;
mod form;
mod json;
mod links;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use apistos::paths::{MediaType, Parameter, ParameterDefinition, ParameterIn, RequestBody};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, InstanceType, Schema};
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{SchemaObject, StringValidation};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use uuid::Uuid;

use links::Given;

use super::State;
use super::answer::{definitions, named};
use super::auth::path_parameter;
use super::body;
use super::budget::Budget;
use crate::documents::store::Stored;
use crate::documents::{DocumentStore, StoreError};
use crate::engine::idempotency::{Key, Keyed, MAX_KEY};
use crate::engine::plan::Revision;
use crate::engine::submission::{MAX_TAG, MAX_TAGS, Request, is_tag};
use crate::error::{ApiError, ApiResult, Code};
use crate::steps::DocumentRef;

/// Longest wait for a result within a submission, in seconds.
pub const MAX_TIMEOUT: i32 = 300;

/// The header that names a submission, so that it can be sent again.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// What the header is for.
pub(super) const KEY_MEANS: &str = "A name of the caller's choice for this submission. Sent again \
    under the same key, it is not started again: the answer is the first one again";

/// Characters of a document's name that are kept.
const MAX_NAME: usize = 255;

/// A submission as it came in.
pub struct Intake {
    /// Everything but documents.
    pub request: Request,
    /// The documents, stored already.
    pub documents: Vec<DocumentRef>,
    /// Seconds to wait for the result; 0 or less for none.
    pub timeout: i32,
    /// The key it is sent under, if any, and what it is.
    pub keyed: Option<Keyed>,
}

/// The body of a submission, not read yet: admission comes first.
pub struct Submission {
    request: HttpRequest,
    payload: Payload,
}

/// What bounds the reading of one submission.
struct Bounds<'a> {
    max_json_bytes: usize,
    max_field_bytes: usize,
    max_file_bytes: u64,
    max_files: usize,
    allowed_types: Option<&'a [String]>,
    idle: Duration,
    bodies: Budget,
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
            allowed_types: settings.allowed_mime_types.as_deref(),
            bodies: state.bodies.clone(),
            idle: Duration::from_secs(state.config.body_idle_seconds),
        };
        let limit = Duration::from_secs(settings.request_timeout_seconds.into());
        let services = &state.engine.context().services;
        let store = &services.documents;
        let media = body::media_type(&self.request)?;
        let key = idempotency_key(&self.request)?;
        let reading = Box::pin(async {
            match media.as_str() {
                "application/json" => json::read(&self.request, self.payload, &bounds, store).await,
                "multipart/form-data" => {
                    form::read(&self.request, self.payload, &bounds, store).await
                }
                _ => Err(ApiError::new(Code::UnsupportedMediaType)),
            }
        });
        let context = state.engine.context();
        let deadline = Instant::now() + limit;
        let late = || ApiError::new(Code::RequestTimeout);
        let mut draft = in_time(deadline, &context.closing, late, reading).await?;
        check(&draft, settings.source.is_some())?;
        checks::input_data(revision, &mut draft.request, &services.sandbox).await?;
        let (draft, keyed) = match key {
            Some(key) => body::off_thread(move || draft.keyed(key)).await?,
            None => (draft, None),
        };
        let Draft { request, documents, timeout } = draft;
        let fetching = links::fetch(documents, &state.fetcher, &context.work, &bounds, store);
        let late = || {
            let detail = "The documents did not come in the time of a request.";
            ApiError::with_detail(Code::DocumentUnavailable, detail)
        };
        let documents = in_time(deadline, &context.closing, late, fetching).await?;
        Ok(Intake { request, documents, timeout, keyed })
    }
}

/// What comes before the deadline and before the server closes: nothing is
/// accepted yet, and what is slow would be cut off without an answer.
async fn in_time<T>(
    deadline: Instant,
    closing: &CancellationToken,
    late: impl FnOnce() -> ApiError,
    coming: impl Future<Output = ApiResult<T>>,
) -> ApiResult<T> {
    tokio::select! {
        come = tokio::time::timeout_at(deadline, coming) => come.unwrap_or_else(|_| Err(late())),
        () = closing.cancelled() => Err(ApiError::new(Code::Draining)),
    }
}

/// A submission as it was read: what is to be fetched is not there yet.
#[derive(Default)]
struct Draft {
    request: Request,
    documents: Vec<Given>,
    timeout: i32,
}

impl Draft {
    fn keyed(self, key: Key) -> ApiResult<(Self, Option<Keyed>)> {
        let documents: Vec<_> = self.documents.iter().map(Given::identity).collect();
        let keyed = Keyed::new(key, &self.request, &documents);
        Ok((self, Some(keyed.map_err(|_| ApiError::new(Code::Internal))?)))
    }
}

/// `Idempotency-Key`, at most once.
fn idempotency_key(request: &HttpRequest) -> ApiResult<Option<Key>> {
    let mut given = request.headers().get_all(IDEMPOTENCY_KEY);
    let key = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => key.to_str().ok().and_then(Key::parse),
        (Some(_), Some(_)) => None,
    };
    let wrong = || {
        let detail = format!("one key of 1 to {MAX_KEY} visible ASCII characters, no blanks");
        ApiError::at(Code::InvalidValue, IDEMPOTENCY_KEY, detail)
    };
    key.ok_or_else(wrong).map(Some)
}

/// Where there is a source, it may have what the submission has not.
fn check(draft: &Draft, has_source: bool) -> ApiResult<()> {
    if !has_source && draft.documents.is_empty() && draft.request.input_data.is_null() {
        return Err(ApiError::new(Code::NothingToDo));
    }
    if !(-1..=MAX_TIMEOUT).contains(&draft.timeout) {
        let detail = format!("from -1 to {MAX_TIMEOUT} seconds");
        return Err(ApiError::at(Code::InvalidValue, "timeout", detail));
    }
    let tags = &draft.request.tags;
    if tags.len() > MAX_TAGS || !tags.iter().all(|tag| is_tag(tag)) {
        let detail = format!("at most {MAX_TAGS} tags of 1 to {MAX_TAG} characters, none U+0000");
        return Err(ApiError::at(Code::InvalidValue, "tags", detail));
    }
    for (name, value) in
        [("parameters", &draft.request.parameters), ("custom_data", &draft.request.custom_data)]
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

    fn parameters() -> Vec<Parameter> {
        let validation = StringValidation {
            pattern: Some("^[!-~]+$".into()),
            max_length: MAX_KEY.try_into().ok(),
            ..StringValidation::default()
        };
        let schema = SchemaObject {
            instance_type: Some(InstanceType::String.into()),
            string: Some(Box::new(validation)),
            ..SchemaObject::default()
        };
        let schema = Box::new(ReferenceOr::Object(Schema::Object(schema)));
        vec![Parameter {
            _in: ParameterIn::Header,
            required: Some(false),
            definition: Some(ParameterDefinition::Schema(schema)),
            ..path_parameter(IDEMPOTENCY_KEY, KEY_MEANS)
        }]
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
        source: None,
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

/// Refuses the document at this position of the list of that name, which is
/// one too many.
fn too_many_files(list: &str, position: usize, bounds: &Bounds<'_>) -> ApiError {
    let detail = format!("A submission may have {} documents.", bounds.max_files);
    ApiError::at(Code::PayloadTooLarge, format!("{list}[{position}]"), detail)
}

fn file_too_large(bounds: &Bounds<'_>, place: String) -> ApiError {
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
