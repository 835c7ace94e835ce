//! The events of an execution as server-sent events (the HTML standard's
//! section 9.2).

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder};
use apistos::paths::{MediaType, Parameter, ParameterDefinition, ParameterIn, Response, Responses};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, InstanceType, Schema, api_operation};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use schemars::schema::SchemaObject;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::answer::{described, time};
use super::auth::{Caller, path_parameter};
use super::executions::answers::Failure;
use super::executions::refuse_expired;
use super::query::Query;
use super::{ExecutionId, State};
use crate::engine::admission::Slot;
use crate::engine::directory;
use crate::engine::events::{Event, EventId, State as Stage, What};
use crate::engine::history::{Follower, Outline};
use crate::engine::lifecycle;
use crate::error::{ApiError, ApiResult, Code};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Between two signs of life while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Between two looks whether the key still opens.
const KEY_CHECK: Duration = Duration::from_secs(1);

/// Tells the caller to come back a second after the stream breaks off.
const RETRY: &str = "retry: 1000\n\n";

/// A comment that keeps the connection in use.
const SIGN_OF_LIFE: &str = ":\n\n";

/// Whether a path leads to [`follow`].
pub(super) fn is_path(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    parts.next() == Some("deployment") && parts.nth(1) == Some("events")
}

/// Events
/// Every change of status, document and step as server-sent events, from the one after `Last-Event-ID` on, until the execution has ended. An id is seen once, whenever and however often the caller comes back.
#[api_operation(tag = "executions", operation_id = "events")]
pub async fn follow(
    state: Data<State>,
    caller: Caller,
    id: ExecutionId,
    after: LastEvent,
) -> ApiResult<EventStream> {
    refuse_expired(&state.engine.progress(&caller.0.entry, id.0).await?)?;
    let busy = || ApiError::new(Code::ServerBusy);
    let most = state.config.max_event_streams;
    let place = state.event_streams.try_take(most).ok_or_else(busy)?;
    let Some(follower) = state.engine.follow(caller.0.entry.id, id.0, after.0).await? else {
        return Ok(EventStream(None));
    };
    let feed = Feed {
        state,
        caller: caller.0,
        follower,
        heartbeat: every(HEARTBEAT),
        key_check: every(KEY_CHECK),
        greeted: false,
        _place: place,
    };
    Ok(EventStream(Some(Box::new(feed))))
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The last event that the caller has seen: the header that browsers send
/// when they come back, or the parameter for those that cannot set it.
pub struct LastEvent(Option<EventId>);

#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
struct LastEventQuery {
    /// As the header `Last-Event-ID`, which comes first.
    last_event_id: Option<String>,
}

impl LastEvent {
    fn of(request: &HttpRequest) -> ApiResult<Self> {
        let query = Query::<LastEventQuery>::of(request)?.0.last_event_id;
        let parse = |place: &str, text: &str| {
            let detail = "the `id` of an event, such as 1-1763899200000000";
            text.parse().map_err(|()| ApiError::at(Code::InvalidValue, place, detail))
        };
        let id = match (request.headers().get(LAST_EVENT_ID), query) {
            (Some(header), _) => Some(parse("Last-Event-ID", header.to_str().unwrap_or_default())?),
            (None, Some(text)) => Some(parse("last_event_id", &text)?),
            (None, None) => None,
        };
        Ok(Self(id))
    }
}

impl FromRequest for LastEvent {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl ApiComponent for LastEvent {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        let header = Parameter {
            _in: ParameterIn::Header,
            required: Some(false),
            ..path_parameter("Last-Event-ID", "The last event that the caller has seen")
        };
        let mut parameters = vec![header];
        parameters.extend(Query::<LastEventQuery>::parameters());
        for parameter in &mut parameters {
            parameter.definition = Some(ParameterDefinition::Schema(Box::new(id_schema())));
        }
        parameters
    }
}

/// One event, its fields side by side: OpenAPI 3.0 has no word for a stream.
fn event_schema() -> SchemaObject {
    let mut schema = SchemaObject {
        instance_type: Some(InstanceType::Object.into()),
        ..SchemaObject::default()
    };
    let text = || SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        ..SchemaObject::default()
    };
    let fields = ["id", "event", "data"].map(|name| (name.to_owned(), text().into()));
    schema.object().properties = fields.into();
    schema
}

fn id_schema() -> ReferenceOr<Schema> {
    let mut schema = SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        ..SchemaObject::default()
    };
    schema.string().pattern = Some("^[0-9]{1,9}-[0-9]{1,18}$".into());
    ReferenceOr::Object(Schema::Object(schema))
}

/// A stream of events; none if the caller has seen the last one.
pub struct EventStream(Option<Box<Feed>>);

impl Responder for EventStream {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let Some(feed) = self.0 else {
            // Browsers come back after every end, but for this answer.
            return HttpResponse::NoContent().finish();
        };
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/event-stream"))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header(("X-Accel-Buffering", "no"))
            .streaming(stream::unfold(feed, |mut feed| async move {
                let bytes = feed.next().await?;
                Some((Ok::<_, ApiError>(bytes), feed))
            }))
    }
}

impl ApiComponent for EventStream {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn responses(_: Option<String>) -> Option<Responses> {
        let media = MediaType {
            schema: Some(ReferenceOr::Object(Schema::Object(event_schema()))),
            ..MediaType::default()
        };
        let events = Response {
            description: "Events `status`, `document` and `step` with JSON as `data`: \
                `execution_id` and `at`; `status`, or `document` (its position), `file`, `state` \
                and `attempt`, and for a step `step`, its id, and at its end `tries`; `error` with `code` and `detail`. \
                A `state` is `started`, `completed`, `skipped`, `failed` or `stopped`."
                .into(),
            headers: described(&[]),
            content: [("text/event-stream".to_owned(), media)].into(),
            ..Response::default()
        };
        let seen = Response {
            description: "The execution has ended and its last event was seen".into(),
            headers: described(&[]),
            ..Response::default()
        };
        let responses = [("200", events), ("204", seen)]
            .map(|(status, response)| (status.to_owned(), ReferenceOr::Object(response)));
        Some(Responses { responses: responses.into_iter().collect(), ..Responses::default() })
    }
}

/// One caller's stream. It holds only its place in the events, and the server
/// asks for more only when the connection can take it.
pub struct Feed {
    state: Data<State>,
    caller: directory::Caller,
    follower: Follower,
    heartbeat: Interval,
    key_check: Interval,
    greeted: bool,
    /// Given back when the stream ends or the caller goes away.
    _place: Slot,
}

impl Feed {
    /// The next piece of the stream; none at its end: after the last event,
    /// when the key opens no more, the store is away or the server drains.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(RETRY.as_bytes()));
        }
        let draining = self.state.engine.context().draining.clone();
        loop {
            if self.follower.is_over() || !self.state.engine.still_opens(&self.caller) {
                return None;
            }
            // Asked for before the events: what there is goes out before the end.
            let drains = draining.is_cancelled();
            let found = self.follower.next().await.ok()?;
            if !found.is_empty() {
                return Some(encode(&self.follower, &found));
            }
            if drains {
                return None;
            }
            tokio::select! {
                () = self.follower.changed() => {}
                () = draining.cancelled() => {}
                _ = self.key_check.tick() => {}
                _ = self.heartbeat.tick() => return Some(Bytes::from_static(SIGN_OF_LIFE.as_bytes())),
            }
        }
    }
}

/// What an event says.
#[derive(Serialize)]
struct Told<'a> {
    execution_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<i32>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl<'a> Told<'a> {
    fn of(execution_id: Uuid, event: &Event, outline: &'a Outline) -> Self {
        let (status, step, stage) = match event.what {
            What::Execution(status) => (Some(lifecycle::name(status)), None, None),
            What::Document(_, stage) => (None, None, Some(stage)),
            What::Step(_, step, stage) => (None, Some(outline.step(step)), Some(stage)),
        };
        Self {
            execution_id,
            status,
            document: event.document(),
            file: event.document().map(|document| outline.file(document)),
            step,
            state: stage.map(stage_name),
            attempt: event.document().map(|_| event.id.attempt()),
            tries: (event.tries > 0).then_some(event.tries),
            at: time(event.id.time()),
            error: event.error.as_deref().map(Failure::of),
        }
    }
}

/// The kind of an event, as its name says.
pub(super) fn kind(event: &Event) -> &'static str {
    match event.what {
        What::Execution(_) => "status",
        What::Document(..) => "document",
        What::Step(..) => "step",
    }
}

/// Where a document or step stands, as callers read it.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Started => "started",
        Stage::Completed => "completed",
        Stage::Skipped => "skipped",
        Stage::Failed => "failed",
        Stage::Stopped => "stopped",
    }
}

fn encode(follower: &Follower, events: &[Event]) -> Bytes {
    let mut text = String::new();
    for event in events {
        let told = Told::of(follower.id(), event, follower.outline());
        // JSON on one line: a line break would end the field.
        let Ok(data) = serde_json::to_string(&told) else { continue };
        text.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, kind(event)));
    }
    text.into()
}
