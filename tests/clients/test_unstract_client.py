"""Unstract's published Python client, as it is, against a started server."""

import json
import logging
import time
from urllib.parse import urljoin

import pytest
from server import Server
from unstract.api_deployments import (
    APIDeploymentError,
    APIDeploymentsClient,
    PaginatedAPIDeploymentSummaryList,
    PlatformClientError,
    PlatformKeyClient,
    WhoAmIResponse,
)

ORG = "acme"
NO_RETRIES = {"max_retries": 0, "logging_level": "ERROR"}

# A jq filter that holds an execution up for long enough to be seen running.
SLOW = {"uses": "jq", "with": {"filter": "[limit(3000000; repeat(1))] | length", "timeout_seconds": 60}}


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def acme(server):
    return server.organisation(ORG, "Acme Ltd")


@pytest.fixture(scope="module")
def reader(acme):
    """A deployment that reads documents."""
    return acme.deployment("reader", acme.workflow("read", [{"uses": "extract_text"}]))


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.txt"
    path.write_text("hello from a client")
    return str(path)


@pytest.fixture
def bad(tmp_path):
    """A document whose text cannot be had."""
    path = tmp_path / "bad.pdf"
    path.write_bytes(b"%PDF-1.7\nnothing that follows is a PDF\n")
    return str(path)


def client(acme, deployment, key=None, **more):
    key = key or deployment["api_key"]
    return APIDeploymentsClient(acme.unstract_url(deployment), key, **{"api_timeout": 0} | NO_RETRIES | more)


def ended(client, answer, **wanted):
    """The answer once the execution has ended, by polling as the client's users do."""
    endpoint = answer["status_check_api_endpoint"]
    deadline = time.monotonic() + 60
    while answer["pending"] and time.monotonic() < deadline:
        answer = client.check_execution_status(endpoint, **wanted)
        time.sleep(0.02)
    assert not answer["pending"], answer
    return answer


def test_an_asynchronous_call_is_pending_and_then_completed(acme, reader, good):
    caller = client(acme, reader)
    answer = caller.structure_file([good])
    assert (answer["status_code"], answer["pending"]) == (200, True), answer
    assert answer["execution_status"] == "PENDING"
    done = ended(caller, answer)
    assert (done["status_code"], done["execution_status"], done["error"]) == (200, "COMPLETED", "")
    [file] = done["extraction_result"]
    assert (file["file"], file["status"], file["error"]) == ("good.txt", "Success", None)
    assert "hello from a client" in file["result"]["output"]["text"]
    again = caller.check_execution_status(answer["status_check_api_endpoint"])
    assert again == done, "a result can be read again and again"


def test_an_execution_that_still_runs_is_told_as_pending(acme, good):
    slow = acme.deployment("slow", acme.workflow("slow", [SLOW]))
    caller = client(acme, slow)
    answer = caller.structure_file([good])
    running = caller.check_execution_status(answer["status_check_api_endpoint"])
    assert (running["status_code"], running["pending"]) == (202, True), running
    assert running["execution_status"] in ("PENDING", "EXECUTING")
    path = f"/deployment/{slow['public_id']}/cancel/{execution_of(answer)}/"
    acme.server.call("POST", path, slow["api_key"])
    stopped = ended(caller, answer)
    assert (stopped["status_code"], stopped["execution_status"]) == (422, "STOPPED")
    assert stopped["error"] and stopped["extraction_result"] == ""


def execution_of(answer):
    return answer["status_check_api_endpoint"].rpartition("=")[2]


def test_a_synchronous_call_brings_the_result(acme, reader, good):
    answer = client(acme, reader, api_timeout=60).structure_file([good])
    assert (answer["status_code"], answer["pending"]) == (200, False), answer
    assert (answer["execution_status"], answer["error"]) == ("COMPLETED", None)
    [file] = answer["extraction_result"]
    assert "hello from a client" in file["result"]["output"]["text"]


def test_every_option_of_the_client_is_understood(acme, reader, good):
    caller = client(acme, reader, include_metadata=True)
    answer = caller.structure_file(
        [good],
        timeout=60,
        include_metrics=True,
        include_extracted_text=True,
        tags="march, supplier-7",
        custom_data={"reference": "Grüße", "rows": [1, None]},
        llm_profile_id="",
        hitl_queue_name="",
        hitl_packet_id="",
        presigned_urls=["", ""],
    )
    assert answer["status_code"] == 200, answer
    [file] = answer["extraction_result"]
    assert file["metadata"]["tags"] == ["march", "supplier-7"]
    assert file["metadata"]["custom_data"] == {"reference": "Grüße", "rows": [1, None]}
    assert file["result"]["metadata"] == file["metadata"]
    assert file["result"]["metrics"] and "hello" in file["extracted_text"]


def test_metadata_can_be_asked_for_when_reading(acme, reader, good):
    caller = client(acme, reader)
    answer = caller.structure_file([good])
    [plain] = ended(caller, answer)["extraction_result"]
    assert "metadata" not in plain["result"] and "metrics" not in plain["result"]
    wanted = {"include_metadata": True, "include_metrics": True, "include_extracted_text": False}
    [file] = ended(caller, answer | {"pending": True}, **wanted)["extraction_result"]
    assert file["result"]["metadata"] == file["metadata"]


@pytest.mark.parametrize("option", ["llm_profile_id", "hitl_queue_name", "hitl_packet_id"])
def test_what_the_server_cannot_do_is_refused_by_name(acme, reader, good, option):
    answer = client(acme, reader).structure_file([good], **{option: "some-value"})
    assert (answer["status_code"], answer["pending"]) == (400, False)
    assert "leave it out or empty" in answer["error"]


def test_a_good_document_comes_through_beside_a_bad_one(acme, reader, good, bad):
    caller = client(acme, reader)
    for answer in (
        ended(caller, caller.structure_file([good, bad])),
        caller.structure_file([good, bad], timeout=60),
    ):
        assert (answer["status_code"], answer["execution_status"]) == (200, "COMPLETED")
        first, second = answer["extraction_result"]
        assert (first["file"], first["status"]) == ("good.txt", "Success")
        assert (second["file"], second["status"], second["result"]) == ("bad.pdf", "Failed", None)
        assert second["error"]


def test_a_failure_comes_with_its_reason(acme, reader, bad):
    caller = client(acme, reader)
    later = ended(caller, caller.structure_file([bad]))
    assert (later["status_code"], later["execution_status"]) == (422, "ERROR")
    assert later["error"] and later["extraction_result"] == ""
    at_once = caller.structure_file([bad], timeout=60)
    assert (at_once["status_code"], at_once["execution_status"]) == (422, "ERROR")
    assert at_once["error"] == later["error"] and not at_once["pending"]


def test_a_wrong_key_is_401_with_a_reason(acme, reader, good):
    for key in ("unst_wrong", acme.key, reader["api_key"][:-1] + "!"):
        answer = client(acme, reader, key=key).structure_file([good])
        assert (answer["status_code"], answer["pending"]) == (401, False)
        assert "key" in answer["error"]


def test_another_deployment_is_404(acme, reader, good):
    elsewhere = client(acme, reader | {"api_name": "not-there"})
    answer = elsewhere.structure_file([good])
    assert (answer["status_code"], answer["error"]) == (404, "There is nothing here.")
    caller = client(acme, reader)
    path = "/deployment/api/acme/reader/?execution_id=01890000-0000-7000-8000-000000000000"
    answer = caller.check_execution_status(path)
    assert (answer["status_code"], answer["pending"]) == (404, False)
    assert answer["error"] == "There is nothing here."


def test_a_document_that_is_too_large_is_413(acme, good):
    small = acme.deployment("small", acme.workflow("small", [{"uses": "extract_text"}]), max_file_bytes=10)
    answer = client(acme, small).structure_file([good])
    assert (answer["status_code"], answer["pending"]) == (413, False)
    assert "10 bytes" in answer["error"]


def test_a_call_above_the_rate_is_429_and_the_client_waits_as_it_is_told(acme, good, caplog):
    limit = {"requests": 1, "per_seconds": 2, "burst": 1}
    tight = acme.deployment("tight", acme.workflow("tight", [{"uses": "extract_text"}]), rate_limit=limit)
    caller = client(acme, tight)
    assert caller.structure_file([good])["status_code"] == 200
    refused = caller.structure_file([good])
    assert (refused["status_code"], refused["pending"]) == (429, False)
    assert "Too many requests" in refused["error"]
    # Left to itself the client would wait for minutes: only Retry-After makes it this short.
    patient = client(acme, tight, max_retries=2, initial_delay=600.0, max_delay=600.0, logging_level="WARNING")
    with caplog.at_level(logging.WARNING):
        assert patient.structure_file([good])["status_code"] == 200
    [retry] = [record.getMessage() for record in caplog.records if "returned 429" in record.getMessage()]
    assert "Retrying in 1.0s" in retry or "Retrying in 2.0s" in retry


def test_a_file_that_is_not_there_is_the_clients_own_error(acme, reader):
    with pytest.raises(APIDeploymentError):
        client(acme, reader).structure_file(["/nowhere/at-all.pdf"])


@pytest.fixture
def platform(acme):
    with PlatformKeyClient(acme.server.url, acme.key, **NO_RETRIES) as platform:
        yield platform


def test_whoami_names_the_organisation_and_the_key(platform):
    answer = WhoAmIResponse.from_dict(platform.whoami())
    assert (answer.organization_id, answer.organization_name) == (ORG, "Acme Ltd")
    assert answer.permission == "full_access" and answer.key_name
    assert answer.additional_properties == {}


def test_whoami_refuses_every_other_key(acme, reader):
    for key in ("unstp_wrong", reader["api_key"], acme.server.operator_token):
        with pytest.raises(PlatformClientError, match="401"):
            PlatformKeyClient(acme.server.url, key, **NO_RETRIES).whoami()


def test_the_list_of_deployments_is_what_the_client_expects(acme, reader, good, platform):
    done = client(acme, reader).structure_file([good], timeout=60)
    assert done["execution_status"] == "COMPLETED"
    answer = platform.list_deployments(ORG, api_name="reader")
    listed = PaginatedAPIDeploymentSummaryList.from_dict(answer)
    assert (listed.count, listed.next_, listed.previous) == (1, None, None)
    [found] = listed.results
    assert (str(found.id), found.api_name, found.workflow_name) == (reader["id"], "reader", "read")
    assert found.is_active and found.run_count >= 1
    assert len(found.last_5_run_statuses) == min(found.run_count, 5)
    latest = found.last_5_run_statuses[0]
    assert latest["status"] == "COMPLETED" and latest["timestamp"] == found.last_run_time
    # What the listing names is what the other client calls.
    url = urljoin(acme.server.url, found.api_endpoint)
    answer = APIDeploymentsClient(url, reader["api_key"], 60, **NO_RETRIES).structure_file([good])
    assert answer["execution_status"] == "COMPLETED"


def test_the_list_of_deployments_can_be_narrowed_ordered_and_paged(server):
    many = server.organisation("many")
    first, second = (many.workflow(name, [{"uses": "extract_text"}]) for name in ("first", "second"))
    for name, workflow, text in [
        ("alpha", first, "100% of it"),
        ("beta", second, "one_two"),
        ("gamma", first, "Nothing"),
    ]:
        many.deployment(name, workflow, display_name=f"The {name.upper()} one", description=text)
    platform = PlatformKeyClient(server.url, many.key, **NO_RETRIES)

    def names(**wanted):
        return [found["api_name"] for found in platform.list_deployments("many", **wanted)["results"]]

    assert names() == ["alpha", "beta", "gamma"]
    assert names(ordering="-created_at") == ["gamma", "beta", "alpha"]
    assert names(workflow=first["id"]) == ["alpha", "gamma"]
    assert names(search="BETA") == ["beta"]
    assert names(search="0% o") == ["alpha"]
    assert names(search="%") == ["alpha"]
    assert names(search="e_t") == ["beta"]
    assert names(api_name="alph") == []
    walked, query = [], {"page": 1, "page_size": 2, "ordering": "-api_name"}
    page = platform.list_deployments("many", **query)
    while True:
        walked += [found["api_name"] for found in page["results"]]
        if page["next"] is None:
            break
        page = server.call("GET", page["next"], many.key)
    assert walked == ["gamma", "beta", "alpha"]
    for wanted in ({"ordering": "size"}, {"workflow": "w"}, {"page_size": 1001}):
        with pytest.raises(PlatformClientError, match="400"):
            platform.list_deployments("many", **wanted)
    with pytest.raises(PlatformClientError, match="404"):
        platform.list_deployments(ORG)


def test_the_answers_are_json_that_says_nothing_of_the_key(acme, reader, good, caplog):
    with caplog.at_level(logging.DEBUG):
        answer = client(acme, reader, logging_level="DEBUG").structure_file([good], timeout=60)
    assert reader["api_key"] not in json.dumps(answer)
    assert reader["api_key"] not in caplog.text
