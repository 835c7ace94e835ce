"""A started Millrace with an organisation, workflows and deployments in it."""

import json
import os
import secrets
import subprocess
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MILLRACE_BINARY", str(ROOT / "target" / "debug" / "millrace"))

# A deployment that rate limiting does not get in the way of.
WIDE = {"requests": 1_000_000, "per_seconds": 1, "burst": 1_000_000}


class Server:
    """The debug build on a free port, its data in a folder that goes with it."""

    def __init__(self, **settings):
        self.folder = tempfile.TemporaryDirectory(prefix="millrace-clients-")
        self.operator_token = secrets.token_urlsafe(32)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        environment |= {
            "MILLRACE_SERVER__PORT": "0",
            "MILLRACE_SERVER__ADMIN_TOKEN": self.operator_token,
            "MILLRACE_LOG__LEVEL": "warn",
        }
        environment |= {f"MILLRACE_{name.upper()}": str(value) for name, value in settings.items()}
        self.log = open(Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve"],
            cwd=self.folder.name,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                return
        self.stop()
        raise RuntimeError("the server ended before it listened")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.folder.cleanup()

    def faults(self):
        """What the log says of faults of the server's own."""
        self.log.flush()
        with open(self.log.name) as log:
            lines = [json.loads(line) for line in log if line.startswith("{")]
        # A request that is no HTTP is the caller's fault, though the library says ERROR.
        ours = (line for line in lines if not line.get("target", "").startswith("actix_http"))
        return [line for line in ours if line.get("level") == "ERROR"]

    def call(self, method, path, key, body=None):
        """The JSON answer; a refusal is an error."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def organisation(self, org_id, name=None):
        body = {"org_id": org_id, "name": name or org_id}
        made = self.call("POST", "/api/v1/admin/organization/", self.operator_token, body)
        return Organisation(self, org_id, made["platform_key"])


class Organisation:
    """An organisation and its platform key."""

    def __init__(self, server, org_id, key):
        self.server, self.org_id, self.key = server, org_id, key

    def call(self, method, path, body=None):
        return self.server.call(method, f"/unstract/{self.org_id}/api/v2/{path}", self.key, body)

    def workflow(self, name, steps):
        return self.call("POST", "workflow/", {"name": name, "type": "TASK", "steps": steps})

    def deployment(self, api_name, workflow, **settings):
        body = {"api_name": api_name, "workflow": workflow["id"], "rate_limit": WIDE} | settings
        return self.call("POST", "api-deployment/", body)

    def unstract_url(self, deployment):
        """Where Unstract's clients find a deployment."""
        return f"{self.server.url}/deployment/api/{self.org_id}/{deployment['api_name']}/"
