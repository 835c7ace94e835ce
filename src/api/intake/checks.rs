//! What a deployment's settings say of the content of a submission.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Bounds, store_away};
use crate::documents::store::Stored;
use crate::documents::text::Options;
use crate::documents::{DocumentStore, media_type};
use crate::engine::plan::Revision;
use crate::engine::submission::Request;
use crate::error::{ApiError, ApiResult, Code};
use crate::sandbox::{Sandbox, SandboxError};
use crate::steps::DocumentRef;

/// Violations that one refusal lists.
const MAX_VIOLATIONS: usize = 20;

/// Allowed types that one refusal lists.
const MAX_TYPES: usize = 20;

/// Time for the check of `input_data`, the wait for a child process included.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// Refuses a stored document whose content is of a type that the deployment
/// does not take.
///
/// # Errors
/// `unsupported_document`, or the store's.
pub(super) async fn document_type(
    document: &DocumentRef,
    place: String,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<()> {
    let Some(allowed) = bounds.allowed_types else { return Ok(()) };
    let stored = Stored { hash: document.hash, size: document.size };
    let options = Options {
        name: Some(document.name.clone()),
        mime_type: document.mime_type.clone(),
        ..Options::default()
    };
    let found = media_type::of(store, stored, options).await.map_err(|error| store_away(&error))?;
    if allowed.iter().any(|pattern| media_type::fits(found, pattern)) {
        return Ok(());
    }
    let mut taken = allowed.iter().take(MAX_TYPES).cloned().collect::<Vec<_>>().join(", ");
    if allowed.len() > MAX_TYPES {
        taken.push_str(" and others");
    }
    let detail = format!("Its content is {found}; the deployment takes {taken}.");
    Err(ApiError::at(Code::UnsupportedDocument, place, detail))
}

/// Refuses `input_data` that breaks the deployment's schema. What was not sent
/// is null.
///
/// # Errors
/// `input_schema_violated`, each fault at its JSON pointer (RFC 6901), or
/// `server_busy`.
pub(super) async fn input_data(
    revision: &Revision,
    request: &mut Request,
    sandbox: &Sandbox,
) -> ApiResult<()> {
    let Some(schema) = revision.input_schema().await else { return Ok(()) };
    let schema = schema.map_err(|fault| {
        tracing::error!(fault, "a stored input schema cannot be used");
        ApiError::new(Code::Internal)
    })?;
    let value = Arc::new(std::mem::take(&mut request.input_data));
    let never = CancellationToken::new();
    let check = schema.violations(Arc::clone(&value), MAX_VIOLATIONS, sandbox, &never);
    let checked = tokio::time::timeout(CHECK_LIMIT, check).await;
    let violations = checked.unwrap_or(Err(SandboxError::Unavailable));
    let violations = violations.map_err(|error| unchecked(&error))?;
    if violations.is_empty() {
        request.input_data = Arc::unwrap_or_clone(value);
        return Ok(());
    }
    let missing = if value.is_null() { "Send `input_data`: " } else { "" };
    let faults = violations.into_iter().map(|violation| {
        let place = format!("/input_data{}", violation.pointer);
        (Some(place), format!("{missing}{}", violation.detail))
    });
    Err(ApiError::all(Code::InputSchemaViolated, faults))
}

fn unchecked(error: &SandboxError) -> ApiError {
    match error {
        SandboxError::Unavailable | SandboxError::Cancelled => ApiError::new(Code::ServerBusy),
        SandboxError::Job(_) | SandboxError::Crashed | SandboxError::TimedOut(_) => {
            let detail = "It is too large or too deep to be checked against the schema.";
            ApiError::at(Code::InputSchemaViolated, "/input_data", detail)
        }
    }
}
