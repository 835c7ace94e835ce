//! Around every request: an id, one shape of refusal, containment of panics,
//! one log line, one count for the key that called.

use std::cell::Cell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError};
use futures_util::FutureExt;
use uuid::Uuid;

use super::State;
use crate::error::{ApiError, Code};
use crate::usage::Subject;

/// The id of a request, among its extensions.
pub struct RequestId(pub String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whose request it is, once an extractor knows. It is kept beside the
/// request, which is gone after a panic.
pub type Counted = Rc<Cell<Option<Subject>>>;

/// The middleware. The log line names the route's pattern, never the path: a
/// path may carry a key.
///
/// # Errors
/// Refusals that no response was made for; the framework makes it from them.
pub async fn envelope<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));
    let counted = Counted::default();
    request.extensions_mut().insert(Rc::clone(&counted));
    let state = request.app_data::<Data<State>>().cloned();
    // The request cannot be kept for an answer: routing needs it alone.
    let called = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    let answered = match called {
        Ok(Ok(response)) => Ok(settle(response.map_into_boxed_body(), &id)),
        Ok(Err(error)) => Err(refusal_of(&error)),
        Err(_) => {
            tracing::error!(request_id = id, "a handler panicked");
            Err(ApiError::new(Code::Internal))
        }
    };
    let (route, status) = match &answered {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(refusal) => (None, refusal.code().status()),
    };
    let draining = state.as_ref().is_some_and(|state| state.engine.context().is_draining());
    if let (Some(state), Some(subject)) = (state, counted.get()) {
        state.engine.usage().request(subject, status.as_u16());
    }
    tracing::info!(
        request_id = id,
        %method,
        route = route.as_deref().unwrap_or("none"),
        status = status.as_u16(),
        millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "request"
    );
    let mut response = answered.map_err(|refusal| Identified { refusal, id: id.clone() })?;
    stamp(response.response_mut(), &id);
    if draining {
        // The caller's next request then goes where it is served.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// A refusal without a response to put it in: the framework makes one.
#[derive(Debug)]
struct Identified {
    refusal: ApiError,
    id: String,
}

impl fmt::Display for Identified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl ResponseError for Identified {
    fn status_code(&self) -> StatusCode {
        self.refusal.code().status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.refusal.respond(&self.id);
        stamp(&mut response, &self.id);
        response
    }
}

fn stamp<B>(response: &mut HttpResponse<B>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The caller's id if it is fit to be logged and echoed, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let fit = |text: &&str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(fit).map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// Puts an error that a handler or the framework answered with into shape.
fn settle(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let refusal = match response.response().error() {
        Some(error) => refusal_of(error),
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(Code::MethodNotAllowed)
        }
        None => return response,
    };
    let allow = response.headers().get(ALLOW).cloned();
    let (http, _) = response.into_parts();
    let mut answer: HttpResponse = refusal.respond(id);
    if let Some(allow) = allow {
        answer.headers_mut().insert(ALLOW, allow);
    }
    ServiceResponse::new(http, answer)
}

fn refusal_of(error: &Error) -> ApiError {
    if let Some(refusal) = error.as_error::<ApiError>() {
        return refusal.clone();
    }
    let code = match error.as_response_error().status_code() {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
        StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        status if status.is_client_error() => Code::InvalidValue,
        _ => Code::Internal,
    };
    ApiError::new(code)
}

#[cfg(test)]
mod tests {
    use actix_web::error::{ErrorBadRequest, ErrorInternalServerError};
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, read_body_json, try_call_service};
    use actix_web::{App, web};
    use serde_json::Value;

    use super::*;

    async fn panics() -> HttpResponse {
        panic!("the inside")
    }

    async fn blames_us() -> Result<HttpResponse, Error> {
        Err(ErrorInternalServerError("the inside"))
    }

    async fn blames_the_caller() -> Result<HttpResponse, Error> {
        Err(ErrorBadRequest("the inside"))
    }

    #[actix_web::test]
    async fn a_panic_and_any_error_are_answered_in_the_one_shape_without_the_inside() {
        let app = App::new()
            .wrap(from_fn(envelope))
            .route("/panics", web::get().to(panics))
            .route("/ours", web::get().to(blames_us))
            .route("/theirs", web::get().to(blames_the_caller));
        let app = init_service(app).await;
        for (path, status, code) in [
            ("/panics", 500, "internal"),
            ("/ours", 500, "internal"),
            ("/theirs", 400, "invalid_value"),
        ] {
            let request = TestRequest::get().uri(path).insert_header((REQUEST_ID, "mine"));
            let response = match try_call_service(&app, request.to_request()).await {
                Ok(response) => response.map_into_boxed_body(),
                Err(error) => {
                    let request = TestRequest::default().to_http_request();
                    ServiceResponse::new(request, error.error_response())
                }
            };
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers().get(&REQUEST_ID).unwrap(), "mine");
            let body: Value = read_body_json(response).await;
            assert_eq!(body["errors"][0]["code"], code);
            assert_eq!(body["request_id"], "mine");
            assert!(!body.to_string().contains("inside"), "{body}");
        }
    }
}
