//! One table of refusals: code, status, kind, text. The only place that turns
//! an error into HTTP.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::limiter::RateState;
use crate::engine::manage::ManageError;
use crate::engine::result::ResultError;
use crate::secrets::SecretsError;
use crate::store::StoreError;

/// Characters of a place that are told.
const MAX_ATTR: usize = 200;

/// The top-level kind of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request's content breaks a rule.
    ValidationError,
    /// The request cannot be served as it is.
    ClientError,
    /// The server's own fault, or a passing state of it.
    ServerError,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $kind:ident, $detail:literal;)*) => {
        /// A stable name of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table's text says what each means")]
        pub enum Code { $($name),* }

        impl Code {
            /// Every code, for the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            const fn row(self) -> (&'static str, StatusCode, ErrorType, &'static str) {
                match self {
                    $(Self::$name => ($code, StatusCode::$status, ErrorType::$kind, $detail)),*
                }
            }
        }
    };
}

codes! {
    InvalidJson = "invalid_json", BAD_REQUEST, ValidationError, "The body is not valid JSON.";
    InvalidForm = "invalid_form", BAD_REQUEST, ValidationError, "The body is not a valid multipart form.";
    InvalidValue = "invalid_value", BAD_REQUEST, ValidationError, "A value is not allowed.";
    InvalidWorkflow = "invalid_workflow", BAD_REQUEST, ValidationError, "The workflow cannot be used.";
    InputSchemaViolated = "input_schema_violated", BAD_REQUEST, ValidationError, "`input_data` is not what the deployment's schema allows.";
    InvalidDeclaration = "invalid_declaration", BAD_REQUEST, ValidationError, "A deployment file cannot be used; nothing was changed.";
    NothingToDo = "nothing_to_do", BAD_REQUEST, ValidationError, "Send at least one document or `input_data`.";
    Unauthorized = "unauthorized", UNAUTHORIZED, ClientError, "A valid key is required: `Authorization: Bearer …`.";
    Forbidden = "forbidden", FORBIDDEN, ClientError, "This key does not allow this.";
    AddressNotAllowed = "address_not_allowed", FORBIDDEN, ClientError, "The deployment may not be called from this address.";
    NotFound = "not_found", NOT_FOUND, ClientError, "There is nothing here.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, ClientError, "This method is not allowed here.";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, ClientError, "Answers are `application/json`; accept that.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, ClientError, "The request body did not arrive in time.";
    NameTaken = "name_taken", CONFLICT, ClientError, "This name is taken.";
    RunInProgress = "run_in_progress", CONFLICT, ClientError, "The deployment's workflow gathers its files already; one run at a time does.";
    AlreadyEnded = "already_ended", CONFLICT, ClientError, "The execution has already ended.";
    NotEnded = "not_ended", CONFLICT, ClientError, "The execution has not ended yet.";
    StepsChanged = "steps_changed", CONFLICT, ClientError, "The steps before `from_step` are not those that ran; leave it out to run all of them.";
    ExecutionStopped = "execution_stopped", CONFLICT, ClientError, "The execution was stopped; it has no result.";
    Changed = "changed", CONFLICT, ClientError, "It has changed since `If-Match` was read.";
    StillInUse = "still_in_use", CONFLICT, ClientError, "Something else still uses this.";
    LastKey = "last_key", CONFLICT, ClientError, "Nobody could manage the organisation any more: make another key of tier `full_access` first.";
    KeyClosed = "key_closed", CONFLICT, ClientError, "The key is revoked, switched off or expired; make a new one.";
    DeclaredInFile = "declared_in_file", CONFLICT, ClientError, "A file declares this; change it there.";
    DeclaredInConfiguration = "declared_in_configuration", CONFLICT, ClientError, "The server's configuration declares this; it cannot be changed here.";
    NoSecretsKey = "no_secrets_key", CONFLICT, ClientError, "This server has no key to seal secrets with; its operator sets `secrets.key`.";
    DeploymentInactive = "deployment_inactive", CONFLICT, ClientError, "The deployment is not active.";
    DeploymentDeleted = "deployment_deleted", CONFLICT, ClientError, "The deployment was deleted.";
    ResultExpired = "result_expired", GONE, ClientError, "The result has expired.";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, ClientError, "The request is too large.";
    DocumentTooLarge = "document_too_large", PAYLOAD_TOO_LARGE, ClientError, "The document at a URL is too large.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, ClientError, "Send `application/json` or `multipart/form-data`.";
    UnsupportedDocument = "unsupported_document", UNPROCESSABLE_ENTITY, ClientError, "The deployment does not take this type of document.";
    DocumentUnavailable = "document_unavailable", UNPROCESSABLE_ENTITY, ClientError, "The document at a URL cannot be fetched.";
    BlockedDestination = "blocked_destination", UNPROCESSABLE_ENTITY, ClientError, "A URL leads to an address that may not be called.";
    IdempotencyMismatch = "idempotency_mismatch", UNPROCESSABLE_ENTITY, ClientError, "Another request was accepted under this `Idempotency-Key`; send a new key.";
    ExecutionFailed = "execution_failed", UNPROCESSABLE_ENTITY, ClientError, "The execution failed.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, ClientError, "Too many requests for this deployment.";
    QueueFull = "queue_full", TOO_MANY_REQUESTS, ClientError, "Too many executions of this deployment wait already.";
    Internal = "internal", INTERNAL_SERVER_ERROR, ServerError, "Something went wrong on our side.";
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, ServerError, "The store cannot be reached; try again.";
    ServerBusy = "server_busy", SERVICE_UNAVAILABLE, ServerError, "The server is at its bound; try again.";
    Draining = "draining", SERVICE_UNAVAILABLE, ServerError, "The server is shutting down; try again.";
    DeploymentUnavailable = "deployment_unavailable", SERVICE_UNAVAILABLE, ServerError, "The deployment is being restored; try again.";
}

impl Code {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// The kind on the wire.
    pub const fn kind(self) -> ErrorType {
        self.row().2
    }

    /// The text where a refusal brings none of its own.
    pub const fn detail(self) -> &'static str {
        self.row().3
    }
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// A stable name for programs.
    pub code: &'static str,
    /// What is wrong and what would cure it.
    pub detail: String,
    /// The place in the request, if it is one place.
    pub attr: Option<String>,
}

/// The body of every refusal.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub struct RefusalBody {
    #[serde(rename = "type")]
    kind: ErrorType,
    errors: Vec<Fault>,
    request_id: String,
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: Code,
    faults: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A refusal with the table's own text.
    pub fn new(code: Code) -> Self {
        Self::with_detail(code, code.detail())
    }

    /// A refusal that says more.
    pub fn with_detail(code: Code, detail: impl Into<String>) -> Self {
        Self::all(code, [(None, detail.into())])
    }

    /// A refusal of one place in the request.
    pub fn at(code: Code, attr: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::all(code, [(Some(attr.into()), detail.into())])
    }

    /// A refusal of several places, or of the whole where there is no place.
    pub fn all(code: Code, faults: impl IntoIterator<Item = (Option<String>, String)>) -> Self {
        let faults = faults
            .into_iter()
            .map(|(attr, detail)| {
                // A place may be made of names that the caller chose.
                let attr = attr.map(|attr| attr.chars().take(MAX_ATTR).collect());
                Fault { code: code.name(), detail, attr }
            })
            .collect();
        let headers = match code.status() {
            // RFC 9110 section 15.5.2: a 401 names what would open.
            StatusCode::UNAUTHORIZED => {
                vec![(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]
            }
            // Section 15.6.4: a 503 may say when to come back; here it always does.
            StatusCode::SERVICE_UNAVAILABLE => vec![(RETRY_AFTER, HeaderValue::from(1))],
            _ => Vec::new(),
        };
        Self { code, faults, headers }
    }

    /// Sets when the caller may try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.headers.push((RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        self
    }

    /// Sets what is left of the rate limit.
    #[must_use]
    pub fn rate(mut self, rate: Option<RateState>) -> Self {
        self.headers.extend(rate.iter().flat_map(rate_headers));
        self
    }

    /// Sets where to look next.
    #[must_use]
    pub fn location(mut self, place: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(place).map(|value| (LOCATION, value)));
        self
    }

    /// Sets whether the submission had been accepted before.
    #[must_use]
    pub fn replayed(mut self, is_replay: bool) -> Self {
        self.headers.extend(replay_header(is_replay));
        self
    }

    /// The code of the table's row.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The finished answer.
    pub fn respond(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status()).json(RefusalBody {
            kind: self.code.kind(),
            errors: self.faults.clone(),
            request_id: request_id.to_owned(),
        });
        // A later value of one name takes the place of an earlier one.
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Declared(file) => {
                let detail = format!("The file `{file}` declares this; change it there.");
                return Self::with_detail(Code::DeclaredInFile, detail);
            }
            StoreError::NotFound => Code::NotFound,
            StoreError::Conflict(_) => Code::NameTaken,
            StoreError::Referenced => Code::StillInUse,
            StoreError::LastKey => Code::LastKey,
            StoreError::Stale => Code::Changed,
            StoreError::Unavailable(_) | StoreError::Interrupted => Code::StoreUnavailable,
            StoreError::Fault(_) => Code::Internal,
        };
        if matches!(code, Code::StoreUnavailable | Code::Internal) {
            tracing::error!(%error, "the store failed a request");
        }
        Self::new(code)
    }
}

impl From<ResultError> for ApiError {
    fn from(error: ResultError) -> Self {
        match error {
            ResultError::Expired => Self::new(Code::ResultExpired),
            ResultError::Store(error) => error.into(),
        }
    }
}

impl From<ManageError> for ApiError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Store(error) => error.into(),
            ManageError::KeyClosed => Self::new(Code::KeyClosed),
            ManageError::Busy => Self::new(Code::ServerBusy),
            ManageError::Declared => Self::new(Code::DeclaredInConfiguration),
            ManageError::Secrets(SecretsError::NoKey) => Self::new(Code::NoSecretsKey),
            ManageError::Secrets(error) => {
                tracing::error!(%error, "secrets failed a request");
                Self::new(Code::Internal)
            }
            ManageError::Steps(faults) => {
                let faults = faults.into_iter().map(|(place, cure)| (Some(place), cure));
                Self::all(Code::InvalidWorkflow, faults)
            }
        }
    }
}

/// `RateLimit-*`, of every answer of a rate-limited route. The reset is in
/// seconds, rounded up.
pub fn rate_headers(rate: &RateState) -> [(HeaderName, HeaderValue); 3] {
    let reset = rate.reset.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    [
        (HeaderName::from_static("ratelimit-limit"), HeaderValue::from(rate.limit)),
        (HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(rate.remaining)),
        (HeaderName::from_static("ratelimit-reset"), HeaderValue::from(reset)),
    ]
}

/// `Idempotent-Replayed`, of answers to a submission that had been accepted
/// before under its key.
pub fn replay_header(is_replay: bool) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_static("idempotent-replayed");
    is_replay.then(|| (name, HeaderValue::from_static("true")))
}

/// Whole seconds, rounded up, at least one: who waits that long passes.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.name())
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// Without a request id; [`crate::api::envelope`] makes the final answer.
    fn error_response(&self) -> HttpResponse {
        self.respond("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for code in Code::ALL.iter().filter(|code| code.status() == StatusCode::SERVICE_UNAVAILABLE)
        {
            assert!(ApiError::new(*code).respond("r").headers().contains_key(RETRY_AFTER));
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
