"""Holds a started server against its own OpenAPI document.

    scripts/clients contract [--examples 200] [--seconds 1200] [-- --seed 1]

`--examples` is for each operation and phase. A run that takes longer than
`--seconds` fails. Every route of /openapi.json is taken in by itself.
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


def schemathesis(server, settings, arguments, seconds):
    """Whether no answer differs from the document."""
    environment = os.environ | {f"CONTRACT_{name}": value for name, value in settings.items()}
    environment |= {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    command = [
        str(Path(sys.executable).parent / "st"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{server.url}/openapi.json", "--no-color", "--warnings", "off", "--checks", "all"),
        *arguments,
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run(command, cwd=folder, env=environment, timeout=seconds).returncode == 0
        except subprocess.TimeoutExpired:
            print(f"schemathesis: stopped after {seconds:.0f} s", flush=True)
            return False


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
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("rest", nargs="*", help="further arguments to schemathesis, after --")
    given = parser.parse_args()
    began = time.monotonic()
    failed = []

    def run(settings, *arguments):
        left = max(given.seconds - (time.monotonic() - began), 1)
        return schemathesis(server, settings, [*arguments, *given.rest], left)

    with Server() as server:
        settings = seeded(server, "acme")
        failed += strangers_are_refused(server, settings)
        print(f"strangers: {failed or 'every operation refuses them alike'}", flush=True)
        if not run(settings, "--max-examples", str(given.examples), "--phases", given.phases):
            failed.append("the server and its document differ")
        tight = {"requests": 1, "per_seconds": 60, "burst": 3}
        settings = seeded(server, "tight", rate_limit=tight)
        few = ["--max-examples", "20", "--phases", "fuzzing", "--include-path-regex", "^/deployment/"]
        if not run(settings, *few):
            failed.append("the server and its document differ where the rate is limited")
        if faults := server.faults():
            failed.append(f"the server logged faults: {faults[:5]}")
    print(f"contract: {'; '.join(failed) or 'kept'}, {time.monotonic() - began:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
