//! The calls of one deployment, each with its answers and with code that makes
//! it.

use serde_json::{Map, Value, json};

use super::components::{SCHEME, reference, refusal};
use super::document::Subject;
use super::example;
use super::samples::{self, Sample};
use crate::api::executions::MAX_WAIT;
use crate::api::intake::{IDEMPOTENCY_KEY, KEY_MEANS};
use crate::engine::idempotency::MAX_KEY;

/// What a rate-limited route always says.
const RATE: [&str; 3] = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"];

/// What says that a submission had been accepted before.
const REPLAYED: &str = "Idempotent-Replayed";

/// All paths, for a server at `base`.
pub fn paths(subject: &Subject, base: &str) -> Value {
    let path = format!("/deployment/{}", subject.public_id);
    let url = |rest: &str| format!("{base}{path}/{rest}");
    let of_execution = |name: &str| format!("{path}/{name}/{{execution_id}}/");
    json!({
        format!("{path}/"): {"post": submit(subject, &url(""))},
        of_execution("status"): {"get": status(&url("status/"))},
        of_execution("result"): {"get": result(&url("result/"))},
        of_execution("events"): {"get": events(&url("events/"))},
        of_execution("cancel"): {"post": cancel(&url("cancel/"))},
    })
}

/// One operation before it is JSON.
struct Operation {
    id: &'static str,
    summary: &'static str,
    text: String,
    samples: Vec<Sample>,
    /// Query and header parameters; the execution is added where it belongs.
    parameters: Vec<Value>,
    body: Option<Value>,
    /// Answers that are no refusals.
    answers: Vec<(&'static str, Value)>,
    /// Statuses of refusals.
    refused: &'static [u16],
}

impl Operation {
    fn json(self) -> Value {
        let blocks: Vec<_> = self.samples.iter().map(Sample::markdown).collect();
        let code: Vec<_> = self.samples.iter().map(Sample::json).collect();
        let refused = self.refused.iter().map(|status| (status.to_string(), refusal(*status)));
        let answers = self.answers.into_iter().map(|(status, answer)| (status.to_owned(), answer));
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": format!("{}\n\n{}", self.text, blocks.join("\n")),
            "tags": ["executions"],
            "security": [{SCHEME: []}],
            "responses": answers.chain(refused).collect::<Map<_, _>>(),
            "x-codeSamples": code,
        });
        if let Some(fields) = operation.as_object_mut() {
            if !self.parameters.is_empty() {
                fields.insert("parameters".into(), self.parameters.into());
            }
            fields.extend(self.body.map(|body| ("requestBody".to_owned(), body)));
        }
        operation
    }
}

/// The path parameter of all calls about one execution.
fn execution() -> Value {
    json!({"$ref": "#/components/parameters/execution_id"})
}

fn answer(description: &str, media_type: &str, schema: &Value, headers: &[&str]) -> Value {
    let headers = headers.iter().map(|name| {
        let reference = format!("#/components/headers/{name}");
        ((*name).to_owned(), json!({"$ref": reference}))
    });
    json!({
        "description": description,
        "headers": headers.collect::<Map<_, _>>(),
        "content": {media_type: {"schema": schema}},
    })
}

fn answer_json(description: &str, schema: &str, headers: &[&str]) -> Value {
    answer(description, "application/json", &reference(schema), headers)
}

fn submit(subject: &Subject, url: &str) -> Value {
    let input = subject.settings.input_schema.clone().map(Value::Object);
    let input = input.as_ref().and_then(example::of);
    let body = samples::submission(input, subject.reads_documents);
    let mut samples = [samples::submit_json(url, &body), samples::submit_form(url)];
    // First what the workflow is made for.
    if subject.reads_documents {
        samples.reverse();
    }
    let [limit, remaining, reset] = RATE;
    let headers = ["Location", REPLAYED, limit, remaining, reset];
    let later = ["Location", "Retry-After", REPLAYED, limit, remaining, reset];
    let key = json!({"name": IDEMPOTENCY_KEY, "in": "header", "required": false,
        "description": KEY_MEANS,
        "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_KEY}});
    Operation {
        id: "submit",
        summary: "Submit",
        text: "Stores the submission and runs the workflow on it. The answer is `202`, as soon as \
               the submission is stored for good. With a `timeout` above 0 it waits so many \
               seconds for the end: `200` with the result, or `422` with the reasons. Documents \
               come as files of a form or, in JSON, in base64. With an `Idempotency-Key` it can be \
               sent again, whatever became of the first answer: it runs once."
            .into(),
        samples: samples.into_iter().flatten().collect(),
        parameters: vec![key],
        body: Some(json!({"required": true, "content": {
            "application/json": {"schema": reference("JsonSubmission"), "example": body},
            "multipart/form-data": {"schema": reference("FormSubmission")},
        }})),
        answers: vec![
            ("200", answer_json("It has ended; with the result", "Submitted", &headers)),
            ("202", answer_json("Stored; it will end", "Submitted", &later)),
        ],
        refused: &[400, 401, 404, 406, 408, 409, 410, 413, 415, 422, 429, 500, 503],
    }
    .json()
}

fn status(url: &str) -> Value {
    let wait = json!({"name": "wait", "in": "query", "required": false,
        "description": "Holds the answer until the status changes, for at most so many seconds",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT}});
    Operation {
        id: "status",
        summary: "Status",
        text: "Where an execution stands: `PENDING`, `EXECUTING`, then for good `COMPLETED`, \
               `ERROR` or `STOPPED`."
            .into(),
        samples: samples::call("GET", url, "/?wait=20"),
        parameters: vec![execution(), wait],
        body: None,
        answers: vec![("200", answer_json("Where the execution stands", "StatusAnswer", &[]))],
        refused: &[400, 401, 404, 406, 500, 503],
    }
    .json()
}

fn result(url: &str) -> Value {
    Operation {
        id: "result",
        summary: "Result",
        text: "One entry for each document. It can be read again and again.".into(),
        samples: samples::call("GET", url, "/"),
        parameters: vec![execution()],
        body: None,
        answers: vec![
            ("200", answer_json("The result", "ResultAnswer", &[])),
            ("202", answer_json("It has not ended", "ResultAnswer", &["Retry-After"])),
        ],
        refused: &[401, 404, 406, 409, 410, 422, 500, 503],
    }
    .json()
}

fn events(url: &str) -> Value {
    let last = json!({"name": "Last-Event-ID", "in": "header", "required": false,
        "description": "The last event that was seen; the stream goes on after it",
        "schema": {"type": "string"}});
    let stream = json!({"type": "string"});
    Operation {
        id: "events",
        summary: "Events",
        text: "Every change of the execution, of its documents and of its steps, as server-sent \
               events. The stream ends with the execution."
            .into(),
        samples: samples::events(url),
        parameters: vec![execution(), last],
        body: None,
        answers: vec![("200", answer("The stream", "text/event-stream", &stream, &[]))],
        refused: &[400, 401, 404, 406, 500, 503],
    }
    .json()
}

fn cancel(url: &str) -> Value {
    Operation {
        id: "cancel",
        summary: "Cancel",
        text: "The execution becomes `STOPPED`. Asking again is the same as asking once; after \
               its end it is `409`."
            .into(),
        samples: samples::call("POST", url, "/"),
        parameters: vec![execution()],
        body: None,
        answers: vec![("202", answer_json("Taken note of", "StatusAnswer", &[]))],
        refused: &[401, 404, 406, 409, 500, 503],
    }
    .json()
}
