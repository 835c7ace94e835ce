"""What schemathesis cannot know by itself: ids of what is there."""

import json
import os
import urllib.error
import urllib.request
import uuid
import zlib

import schemathesis
from hypothesis import strategies
from schemathesis.core.parameters import ParameterLocation

URL = os.environ["CONTRACT_URL"]
PLATFORM_KEY = os.environ["CONTRACT_PLATFORM_KEY"]
WORKFLOW = os.environ["CONTRACT_WORKFLOW"]
DEPLOYMENT_KEY = os.environ["CONTRACT_DEPLOYMENT_KEY"]
SUBMISSIONS = ("/deployment/{api_key}/", "/deployment/api/{org_id}/{api_name}/")
# What the run itself stands on: no other case may change or delete it.
KEPT = set(os.environ["CONTRACT_KEPT"].split(","))

FORM = "multipart/form-data"
STEPS = [{"uses": "extract_text"}]

# Bodies that make one more of what a collection lists.
MAKE = {
    "workflow": lambda: {"name": f"w-{uuid.uuid4()}", "type": "TASK", "steps": STEPS},
    "api-deployment": lambda: {"api_name": f"d-{uuid.uuid4()}", "workflow": WORKFLOW},
    "connection": lambda: {"name": f"c-{uuid.uuid4()}", "kind": "llm", "provider": "openai", "model": "m"},
    "key": dict,
    "platform-key": lambda: {"name": "one more", "tier": "read"},
}

json_text = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=2) | strategies.dictionaries(strategies.text(max_size=5), inner),
    max_leaves=4,
)
schemathesis.openapi.format("cidr", strategies.sampled_from(["192.0.2.0/24", "127.0.0.0/8", "2001:db8::/32", "::/0"]))
schemathesis.openapi.format("json", json_text.map(json.dumps))
schemathesis.openapi.format("json-object", strategies.dictionaries(strategies.text(max_size=5), json_text).map(json.dumps))

# A URL, which no schema describes in full; it is refused without a call.
REFUSED_URL = "https://127.0.0.1/file"


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {PLATFORM_KEY}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method), timeout=60) as answer:
            return json.load(answer)
    except (urllib.error.HTTPError, ValueError):
        return {}


def usable(row):
    return row.get("id") not in KEPT and row.get("last_four") != PLATFORM_KEY[-4:]


def one_of(collection, consumed):
    """The id of something that the collection lists; of a new one if it will be used up."""
    kind = collection.rstrip("/").rpartition("/")[2]
    rows = [] if consumed else [row for row in call("GET", collection).get("results", []) if usable(row)]
    if not rows and kind in MAKE:
        rows = [call("POST", collection, MAKE[kind]())]
    return rows[0].get("id") if rows else None


def fill(case):
    """Puts ids into the path, in four cases of five: the rest shows what is not there."""
    path = ""
    parts = case.operation.path.strip("/").split("/")
    last = max((place for place, part in enumerate(parts) if part.startswith("{")), default=0)
    for place, part in enumerate(parts):
        if not part.startswith("{"):
            path += f"/{part}"
            continue
        name = part.strip("{}")
        given = case.path_parameters[name]
        if name in ("id", "key_id") or name.endswith("_id") and name not in ("org_id", "execution_id"):
            if zlib.crc32(str(given).encode()) % 5 == 0:
                return
            consumed = place == last and (case.method == "DELETE" or parts[-1] == "rotate")
            case.path_parameters[name] = given = one_of(path + "/", consumed) or given
        path += f"/{given}"


def mend(case):
    """What a schema cannot say: which workflow and connection there is, which time is to come, what a URL is, that there is something to do."""
    body = case.body
    if isinstance(body.get("workflow"), str):
        body["workflow"] = WORKFLOW
    if "/api-deployment/" in case.operation.path:
        body.pop("deployment_type", None)
        # They name connections that must be there.
        body.pop("webhook", None)
        body.pop("source", None)
    if isinstance(body.get("expires_at"), str):
        body["expires_at"] = "2999-12-31T23:59:59Z"
    if case.method == "POST" and case.operation.path.startswith("/deployment/"):
        if not body.get("files") and not body.get("documents"):
            body["input_data"] = "{}" if case.media_type == FORM else {}
        for document in body.get("documents") or []:
            if isinstance(document, dict) and document.get("url") is not None:
                document["url"] = REFUSED_URL
        if body.get("presigned_urls"):
            body["presigned_urls"] = [REFUSED_URL]
        if body.get("timeout", 0) > 2:
            body["timeout"] = 2


@schemathesis.hook
def before_call(context, case, kwargs):
    def right(location):
        return not (case.meta and case.meta.is_negative_at(location))

    if case.path_parameters and right(ParameterLocation.PATH):
        fill(case)
    if isinstance(case.body, dict) and right(ParameterLocation.BODY):
        mend(case)


@schemathesis.check
def headers_of_the_contract(context, response, case):
    """What every answer brings, and what it never tells."""
    headers = {name.lower(): values[0] for name, values in response.headers.items()}
    assert headers.get("x-request-id"), "an answer without X-Request-Id"
    if response.status_code in (429, 503):
        assert int(headers["retry-after"]) >= 1, "a refusal that does not say when to come back"
    if response.status_code == 401:
        assert headers.get("www-authenticate"), "a 401 that does not say what would open"
    submission = case.method == "POST" and case.operation.path in SUBMISSIONS
    if submission and response.status_code in (200, 202, 400, 413, 415, 422, 429):
        for name in ("limit", "remaining", "reset"):
            assert int(headers[f"ratelimit-{name}"]) >= 0
    for key in (PLATFORM_KEY, DEPLOYMENT_KEY):
        assert key not in response.text, "an answer that tells a key"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """In a form everything is bytes: what is of the wrong type is still a document, or a text that says the same."""
    kind = type(failure).__name__
    if kind == "UseAfterFree" and "key/" in case.operation.path:
        # A key that was revoked opens nothing, but it is still shown, as revoked.
        return False
    return not (case.media_type == FORM and kind == "AcceptedNegativeData")
