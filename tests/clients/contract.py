"""Holds a started server against its own OpenAPI document.

    tests/clients/contract.py [--examples 200] [--seconds 600]

`--examples` is for each operation and phase, `--seconds` the bound of the
whole. Takes in every route of /openapi.json by itself.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from server import Server

HERE = Path(__file__).resolve().parent
DOCUMENT = {"name": "a.txt", "content_base64": base64.b64encode(b"hello").decode()}
STEPS = [{"uses": "extract_text"}]


def schemathesis(server, settings, arguments, folder):
    environment = os.environ | {f"CONTRACT_{name}": value for name, value in settings.items()}
    environment |= {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    command = [
        str(Path(sys.executable).parent / "st"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{server.url}/openapi.json", "--no-color", "--warnings", "off"),
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, env=environment).returncode


def seeded(server, org_id, **deployed):
    """An organisation with a deployment to call, and what the configuration wants to know of it."""
    acme = server.organisation(org_id)
    workflow = acme.workflow("called", STEPS)
    called = acme.deployment("called", workflow, **deployed)
    submission = {"documents": [DOCUMENT], "timeout": 60}
    path = f"/deployment/{called['public_id']}/"
    execution = server.call("POST", path, called["api_key"], submission)
    return {
        "URL": server.url,
        "ORG_ID": org_id,
        "API_NAME": called["api_name"],
        "PUBLIC_ID": called["public_id"],
        "EXECUTION_ID": execution["execution_id"],
        "WORKFLOW": workflow["id"],
        "KEPT": f"{workflow['id']},{called['id']}",
        "DEPLOYMENT_KEY": called["api_key"],
        "PLATFORM_KEY": acme.key,
        "OPERATOR_TOKEN": server.operator_token,
    }


def strangers_are_refused(server, settings):
    """Every operation that wants a key refuses no key, a wrong one and another kind's, all alike."""
    with urllib.request.urlopen(f"{server.url}/openapi.json") as answer:
        document = json.load(answer)
    keys = {
        "deployment_key": settings["DEPLOYMENT_KEY"],
        "platform_key": settings["PLATFORM_KEY"],
        "operator_token": settings["OPERATOR_TOKEN"],
    }
    seen, faults = set(), []
    for template, item in document["paths"].items():
        path = template.replace("{org_id}", settings["ORG_ID"]).replace("{api_key}", settings["PUBLIC_ID"])
        for method, operation in item.items():
            if not operation.get("security"):
                continue
            wanted = {name for scheme in operation["security"] for name in scheme}
            wrong = [key for kind, key in keys.items() if kind not in wanted]
            for authorization in [None, "Bearer", "Basic YTpi", "Bearer unst_x", *(f"Bearer {key}" for key in wrong)]:
                headers = {"Authorization": authorization} if authorization else {}
                status, body = refusal(method, server.url + path, headers)
                seen.add(json.dumps(body | {"request_id": ""}))
                if status != 401:
                    faults.append(f"{method.upper()} {template} answers {status} to a stranger")
    if len(seen) != 1:
        faults.append(f"refusals differ: {seen}")
    return faults


def refusal(method, url, headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method.upper(), headers=headers)) as answer:
            return answer.status, {}
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("rest", nargs="*", help="further arguments to schemathesis, after --")
    given = parser.parse_args()
    began = time.monotonic()
    failed = []
    # Whatever is fuzzed must not outrun what CI has: a few executions, small bodies.
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        settings = seeded(server, "acme")
        failed += strangers_are_refused(server, settings)
        print(f"strangers: {failed or 'every operation refuses them alike'}", flush=True)
        arguments = ["--max-examples", str(given.examples), "--phases", given.phases, *given.rest]
        if schemathesis(server, settings, arguments, folder):
            failed.append("the server and its document differ")
        tight = {"requests": 1, "per_seconds": 60, "burst": 3}
        settings = seeded(server, "tight", rate_limit=tight)
        arguments = ["--max-examples", "20", "--phases", "fuzzing", "--include-path-regex", "^/deployment/"]
        if schemathesis(server, settings, arguments, folder):
            failed.append("the server and its document differ where the rate is limited")
        server.log.seek(0)
        errors = [line for line in server.log if '"level":"ERROR"' in line]
        print(f"errors in the server's log: {len(errors)}", *errors[:10], sep="\n")
    print(f"contract: {'; '.join(failed) or 'kept'}, {time.monotonic() - began:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
