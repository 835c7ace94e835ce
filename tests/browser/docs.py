#!/usr/bin/env python3
"""The documentation pages as people use them: opened in headless Chromium,
tried out, and their examples run as they stand there. `scripts/browser` starts
it. Pictures of the pages go to target/docs-pictures/.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import requests
from openapi_spec_validator import validate

from millrace import INVOICE, ROOT, Server
from viewer import Viewer

PICTURES = ROOT / "target/docs-pictures"
HOSTILE = "</script><img src=x onerror=alert(1)>"
STEPS = [
    {"uses": "extract_text"},
    {"uses": "jq", "with": {"filter": "{characters: (.text // . | tostring | length)}"}},
]
ECHO = [{"uses": "jq", "with": {"filter": "."}}]
ENDLESS = [{"uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}}]


def document_of(server, deployment):
    """The OpenAPI document, which must be valid."""
    url = f"{server.url}/deployment/{deployment['api_key']}/docs/openapi.json"
    document = requests.get(url, timeout=30).json()
    validate(document)
    return document


def calm(viewer, what):
    faults = viewer.faults()
    assert not faults, f"{what}: {faults}"


def try_out(server, deployment):
    """Submits JSON and a form from the page and reads the result."""
    key = deployment["api_key"]
    with Viewer() as viewer:
        viewer.open(f"{server.url}/deployment/{key}/docs")
        assert viewer.browser.title == deployment["display_name"]
        assert key not in viewer.browser.page_source
        viewer.picture(PICTURES / "deployment.png")
        viewer.authorize(key)
        submit = viewer.operation("submit")
        viewer.picture(PICTURES / "submit.png", whole=True)
        status, body = viewer.execute(submit)
        assert (status, body["status"]) == (200, "COMPLETED"), body
        assert body["result"][0]["status"] == "Success", body
        viewer.picture(PICTURES / "submitted.png", whole=True)
        viewer.choose_form(submit)
        viewer.attach(submit, INVOICE)
        viewer.picture(PICTURES / "form.png", whole=True)
        status, body = viewer.execute(submit)
        assert status == 202, body
        execution = body["execution_id"]
        assert body["message"]["execution_id"] == execution
        for name, wait in [("status", 20), ("result", None)]:
            block = viewer.operation(name)
            viewer.fill(block, "execution_id", execution)
            if wait is not None:
                viewer.fill(block, "wait", wait)
            status, body = viewer.execute(block)
            assert (status, body["status"]) == (200, "COMPLETED"), body
        assert body["result"][0]["file"] == INVOICE.name, body
        assert body["result"][0]["result"]["output"]["characters"] > 1000, body
        viewer.picture(PICTURES / "result.png")
        calm(viewer, "the page of the deployment")
    print("tried out: JSON, a form with a file, status, result")


def look(server, deployment):
    """Pages in the dark, on a telephone, for everybody, and of the whole API."""
    address = f"{server.url}/deployment/{deployment['public_id']}/docs/"
    for name, url, options in [
        ("dark", address, {"dark": True}),
        ("narrow", address, {"width": 390, "height": 844}),
        ("narrow-dark", address, {"width": 390, "height": 844, "dark": True}),
        ("whole", server.url, {}),
    ]:
        with Viewer(**options) as viewer:
            viewer.open(url)
            viewer.picture(PICTURES / f"{name}.png")
            if name != "whole":
                viewer.operation("submit")
                viewer.unfold("details")
                viewer.picture(PICTURES / f"{name}-submit.png", whole=True)
            else:
                assert viewer.browser.title == "Millrace"
            width = "document.documentElement.scrollWidth - window.innerWidth"
            over = viewer.browser.execute_script(f"return {width}")
            assert over <= 0, f"{name} is {over} pixels too wide"
            calm(viewer, name)
    print("looked at: dark, narrow, the whole API")


def run(sample, folder, environment):
    """Runs a sample exactly as it is shown; returns what it prints."""
    programs = {
        "shell": ["bash", "-euo", "pipefail", "-c", sample["source"]],
        "python": [sys.executable, "-c", sample["source"]],
        "javascript": ["node", "--input-type=module", "--eval", sample["source"]],
    }
    command = programs[sample["lang"]]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{sample['label']}: {done.stdout}{done.stderr}"
    return done.stdout


def stop_samples(server, deployment, document):
    """Runs the examples of a cancel on an execution that would not end."""
    address = f"{server.url}/deployment/{deployment['public_id']}/"
    headers = {"Authorization": f"Bearer {deployment['api_key']}"}
    answer = requests.post(address, json={"input_data": 1}, headers=headers, timeout=30)
    environment = os.environ | {
        "MILLRACE_KEY": deployment["api_key"],
        "EXECUTION_ID": answer.json()["execution_id"],
    }
    path = f"/deployment/{deployment['public_id']}/cancel/{{execution_id}}/"
    samples = runnable(document["paths"][path]["post"])
    for sample in samples:
        run(sample, ROOT, environment)
    status = f"{address}status/{environment['EXECUTION_ID']}/?wait=20"
    # Each answer is held back for one change, and there may be some before the end.
    for _ in range(3):
        seen = requests.get(status, headers=headers, timeout=60).json()["status"]
        if seen == "STOPPED":
            break
    assert seen == "STOPPED", seen
    print(f"stopped by {len(samples)} examples")


def runnable(operation):
    """The examples of an operation that there is a program for."""
    samples = operation["x-codeSamples"]
    program = {"shell": "curl", "python": sys.executable, "javascript": "node"}
    kept = [sample for sample in samples if shutil.which(program[sample["lang"]])]
    if len(kept) < len(samples):
        print(f"left out for want of a program: examples of {operation['operationId']}")
    return kept


def run_samples(deployment, document, served):
    """Runs the examples of all calls that the server has."""
    count = 0
    with tempfile.TemporaryDirectory(prefix="millrace-samples.") as folder:
        shutil.copy(INVOICE, pathlib.Path(folder) / "document.pdf")
        environment = os.environ | {"MILLRACE_KEY": deployment["api_key"]}
        for path, item in document["paths"].items():
            for operation in item.values():
                general = path.replace(deployment["public_id"], "{api_key}")
                # What has ended cannot be cancelled.
                if general not in served or operation["operationId"] == "cancel":
                    continue
                for sample in runnable(operation):
                    printed = run(sample, folder, environment)
                    assert "COMPLETED" in printed, f"{sample['label']}: {printed}"
                    found = re.search(r"execution_id[\"']?: ?[\"']([0-9a-f-]{36})", printed)
                    if found:
                        environment["EXECUTION_ID"] = found.group(1)
                    count += 1
    print(f"ran {count} examples of {deployment['api_name']}")


def main():
    with Server() as server:
        whole = requests.get(f"{server.url}/openapi.json", timeout=30).json()
        validate(whole)
        platform = server.organisation()
        reads = server.deploy(
            platform,
            "reads",
            STEPS,
            display_name=f"Invoices {HOSTILE}",
            description=f"Reads **invoices** of all kinds. {HOSTILE}",
            public_docs=True,
        )
        echoes = server.deploy(platform, "echoes", ECHO, display_name="Echo")
        for deployment in (reads, echoes):
            run_samples(deployment, document_of(server, deployment), whole["paths"])
        endless = server.deploy(platform, "endless", ENDLESS)
        stop_samples(server, endless, document_of(server, endless))
        try_out(server, reads)
        look(server, reads)


if __name__ == "__main__":
    main()
