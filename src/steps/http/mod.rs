//! `http`: calls a service.

mod answer;
mod body;
mod params;
mod target;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::rendering::{self, Renderer};
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::connections::{Connection, Kind};
use crate::outbound;
use body::{Body, Shape, Source};
pub use params::Params;
use params::{Answer, Method, Send};
use target::Target;

/// Bytes of one header that a template makes.
const MAX_HEADER: usize = 8192;

/// Entries of `query`, and of `headers`.
const MAX_ENTRIES: usize = 64;

/// Most of `max_response_bytes`.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// Most of `timeout_seconds`.
const MAX_TIMEOUT: u64 = 300;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The step kind `http`.
pub struct Http {
    connection: Option<String>,
    request: Arc<Request>,
    expect: Vec<u16>,
    answer: Answer,
    max_response_bytes: usize,
    timeout: Duration,
}

/// What a call is made of.
struct Request {
    method: Method,
    target: Target,
    headers: Vec<(HeaderName, Renderer)>,
    send: Send,
    source: Source,
    document_field: Option<String>,
    idempotency_key: bool,
}

/// A call, ready to be sent.
struct Call {
    url: Url,
    headers: HeaderMap,
    body: Body,
}

impl StepKind for Http {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "Calls a service by HTTP.";
    const REFERENCE: Reference = Reference {
        about: "The service is a connection of kind `http`, which keeps its address and its secrets out of the workflow, or a `url`. Templates have the variables of the step `template`. No redirect is followed. Stored connections and `url` reach public addresses only, and what `outbound.allowed_networks` opens.

A call is repeated after a failure that may pass, and after a crash of the server. Calls other than `GET` and `HEAD` carry the header `Idempotency-Key`, the same in each repetition for this execution, document and step, so that the service can tell them apart from new ones.",
        output: r#"`{"status", "headers", "body"}`; of the headers `content-type`, `content-language`, `date`, `etag`, `last-modified`, `link`, `location` and `x-request-id`."#,
        errors: &[
            ("template_failed", "a template fails on this input"),
            ("bad_step_input", "what is to be sent has not the form that `send` takes, or is not there"),
            ("http_request_invalid", "the URL, the path, a header or the body that was made cannot be sent"),
            ("connection_unknown", "there is no connection of that name and kind"),
            ("blocked_destination", "the URL leads to an address that may not be called"),
            ("http_unavailable", "the service is away or too slow, or answered with 408, 425, 429 or 5xx; tried again, after its `Retry-After` if it sends one"),
            ("http_refused", "the service answered with a status that does not count as success"),
            ("http_response_too_large", "the answer has more than `max_response_bytes`"),
            ("http_response_invalid", "the answer is not of the form that `response` says"),
        ],
        example: r#"{"connections": {"books": {"kind": "http", "base_url": "{http}/echo", "headers": {"Authorization": "Bearer secret"}}},
 "with": {"connection": "books", "method": "PUT", "path": "invoices/{{ input.number }}", "body": {"total": "{{ input.total }}", "note": "No. {{ input.number }}"}},
 "input": {"number": "A-1", "total": 12.5},
 "output": {"status": 200, "headers": {"content-type": "application/json"}, "body": {"method": "PUT", "path": "/echo/invoices/A-1", "body": {"total": 12.5, "note": "No. A-1"}}}}"#,
    };
    const CONNECTION: Option<Kind> = Some(Kind::Http);
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        check(&params)?;
        let reads_only = matches!(params.method, Method::Get | Method::Head | Method::Delete);
        let has_body = params.body.is_some() || params.body_from.is_some();
        let usual = if reads_only && !has_body { Send::Nothing } else { Send::Json };
        let source = match (params.body, params.body_from) {
            (Some(body), _) => Source::Shape(Box::new(Shape::compile("body", body)?)),
            (None, Some(pointer)) => Source::Pointer(pointer),
            (None, None) => Source::Input,
        };
        let headers = params.headers.into_iter().map(|(name, source)| {
            let place = format!("headers.{name}");
            let name = target::header_name(&name)
                .ok_or_else(|| ParamError::at(&place, "no header that a step may set"))?;
            Ok((name, Renderer::compile(&place, source)?))
        });
        let request = Request {
            method: params.method,
            target: Target::compile(params.url, params.path, params.query)?,
            headers: headers.collect::<Result<_, _>>()?,
            send: params.send.unwrap_or(usual),
            source,
            document_field: params.document_field,
            idempotency_key: params.idempotency_key && !params.method.is_safe(),
        };
        Ok(Self {
            connection: params.connection,
            request: Arc::new(request),
            expect: params.expect,
            answer: params.response,
            max_response_bytes: params.max_response_bytes,
            timeout: Duration::from_secs(params.timeout_seconds),
        })
    }
}

fn check(params: &Params) -> Result<(), ParamError> {
    let document = params.send == Some(Send::Document);
    let faults = [
        (
            params.connection.is_some() == params.url.is_some(),
            "",
            "either a `connection` or a `url`",
        ),
        (params.body.is_some() && params.body_from.is_some(), "body_from", "or `body`, not both"),
        (
            params.body_from.as_ref().is_some_and(|at| !at.is_empty() && !at.starts_with('/')),
            "body_from",
            "a JSON pointer, such as /steps/totals",
        ),
        (
            params.document_field.is_some() && !document,
            "document_field",
            "only with `send` document",
        ),
        (
            document
                && params.document_field.is_none()
                && (params.body.is_some() || params.body_from.is_some()),
            "body",
            "beside the document only with `document_field`",
        ),
        (
            params.document_field.is_some()
                && params.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")),
            "headers.content-type",
            "not with `document_field`: the form says its own",
        ),
        (params.query.len() > MAX_ENTRIES, "query", "at most 64 entries"),
        (params.headers.len() > MAX_ENTRIES, "headers", "at most 64 entries"),
        (
            params.expect.iter().any(|status| !(200..=599).contains(status)),
            "expect",
            "statuses from 200 to 599",
        ),
        (
            !(1..=MAX_RESPONSE).contains(&params.max_response_bytes),
            "max_response_bytes",
            "from 1 to 16777216",
        ),
        (!(1..=MAX_TIMEOUT).contains(&params.timeout_seconds), "timeout_seconds", "from 1 to 300"),
    ];
    match faults.into_iter().find(|(is_wrong, ..)| *is_wrong) {
        Some((_, place, cure)) => Err(ParamError::at(place, cure)),
        None => Ok(()),
    }
}

#[async_trait]
impl Step for Http {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let calling = tokio::time::timeout(self.timeout, self.call(context));
        tokio::select! {
            biased;
            () = context.cancel.cancelled() => Err(StepError::cancelled()),
            answered = calling => answered.unwrap_or_else(|_| {
                let detail = format!("the service did not answer within {} s", self.timeout.as_secs());
                Err(StepError::transient("http_unavailable", detail))
            }),
        }
    }
}

impl Http {
    async fn call(&self, context: &StepContext) -> Result<Value, StepError> {
        let connection = self.connection(context)?;
        let (base, secrets) = match connection.as_deref() {
            Some(Connection::Http { base_url, headers, .. }) => {
                let secrets = outbound::headers::of_connection(headers);
                let unusable = || invalid("a header of the connection cannot be used");
                (Some(base_url.clone()), secrets.ok_or_else(unusable)?)
            }
            _ => (None, HeaderMap::new()),
        };
        let Call { url, mut headers, body } = self.prepared(context, base).await?;
        headers.extend(secrets);
        let client = self.client(context, &url)?;
        let request = client.request(self.request.method.name(), url);
        // After the body, whose type a workflow may say more exactly.
        let request = body.onto(request, context)?.headers(headers);
        let response = request.send().await.map_err(|error| answer::failure(&error))?;
        if !self.is_success(response.status().as_u16()) {
            return Err(answer::refusal(&response));
        }
        answer::read(response, self.answer, self.max_response_bytes).await
    }

    fn is_success(&self, status: u16) -> bool {
        match self.expect.as_slice() {
            [] => (200..300).contains(&status),
            expected => expected.contains(&status),
        }
    }

    fn connection(&self, context: &StepContext) -> Result<Option<Arc<Connection>>, StepError> {
        let Some(name) = &self.connection else { return Ok(None) };
        let found = context.services.connections.get(&context.scope.org_id, name);
        let found = found.filter(|one| one.kind() == Kind::Http);
        let unknown = || {
            let detail = format!("there is no connection `{name}` of kind http");
            StepError::permanent("connection_unknown", detail)
        };
        found.ok_or_else(unknown).map(Some)
    }

    /// What the operator declares may lead anywhere.
    fn client<'a>(&self, context: &'a StepContext, url: &Url) -> Result<&'a Client, StepError> {
        let services = &context.services;
        let is_declared =
            |name: &String| services.connections.is_declared(&context.scope.org_id, name);
        match self.connection.as_ref().is_some_and(is_declared) {
            true => Ok(services.outbound.open()),
            false => services.outbound.guarded(url).map_err(|_| answer::blocked()),
        }
    }

    /// Renders everything, off the asynchronous threads.
    async fn prepared(
        &self,
        context: &StepContext,
        base: Option<String>,
    ) -> Result<Call, StepError> {
        let document = match self.request.send {
            Send::Document => Some(body::document(context)?),
            _ => None,
        };
        let (input, data) = (Arc::clone(&context.input), Arc::clone(&context.data));
        let (request, key) = (Arc::clone(&self.request), context.scope.stable_id());
        offload(move || {
            let variables = rendering::variables(&input, &data);
            let url = request.target.url(base.as_deref(), &variables)?;
            let mut headers = HeaderMap::new();
            for (name, template) in &request.headers {
                let text = template.render(variables.clone(), MAX_HEADER)?;
                headers.insert(name.clone(), value(&text, name.as_str())?);
            }
            if request.idempotency_key && !headers.contains_key(IDEMPOTENCY_KEY) {
                headers.insert(IDEMPOTENCY_KEY, value(&key, IDEMPOTENCY_KEY.as_str())?);
            }
            let made = || request.source.value(&input, &data, &variables);
            let body = match (document, &request.document_field) {
                (Some(document), Some(part)) => {
                    // What the step works on is no form by itself.
                    let fields = match request.source {
                        Source::Input => Vec::new(),
                        _ => body::fields(&made()?)?,
                    };
                    Body::Form { fields, part: part.clone(), document }
                }
                (Some(document), None) => Body::Document(document),
                (None, _) if request.send == Send::Nothing => Body::None,
                (None, _) => Body::encode(request.send, &made()?)?,
            };
            Ok(Call { url, headers, body })
        })
        .await
    }
}

/// A line break or another control character would begin a header of its own.
fn value(text: &str, name: &str) -> Result<HeaderValue, StepError> {
    let wrong = || invalid(&format!("the header `{name}` takes one line of ASCII"));
    HeaderValue::try_from(text).map_err(|_| wrong())
}

/// What was made of templates cannot be sent.
fn invalid(detail: &str) -> StepError {
    StepError::permanent("http_request_invalid", detail)
}
