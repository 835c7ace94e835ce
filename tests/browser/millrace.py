"""A server of its own for the tests in the browser, and what is called on it."""

import os
import pathlib
import subprocess
import tempfile

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/millrace"
INVOICE = ROOT / "demo/invoice.pdf"
OPERATOR = "op_browser"
ORG = "acme"


class Server:
    """A whole server on a free port, in a folder that vanishes with it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="millrace-browser.")
        settings = {"SERVER__PORT": "0", "SERVER__ADMIN_TOKEN": OPERATOR, "LOG__LEVEL": "warn"}
        environment = {f"MILLRACE_{name}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [PROGRAM, "serve"],
            cwd=self.folder.name,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                return self
        raise SystemExit("browser: the server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.folder.cleanup()

    def post(self, path, key, body):
        """The answer to a call that must make something."""
        headers = {"Authorization": f"Bearer {key}"}
        answer = requests.post(self.url + path, json=body, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def organisation(self):
        """Makes the organisation; returns its platform key."""
        made = self.post("/api/v1/admin/organization/", OPERATOR, {"org_id": ORG})
        return made["platform_key"]

    def deploy(self, platform_key, name, steps, **fields):
        """Makes a workflow and its deployment; returns the deployment."""
        base = f"/unstract/{ORG}/api/v2"
        workflow = {"name": name, "type": "TASK", "steps": steps}
        workflow = self.post(f"{base}/workflow/", platform_key, workflow)
        deployment = {"api_name": name, "workflow": workflow["id"]} | fields
        return self.post(f"{base}/api-deployment/", platform_key, deployment)
