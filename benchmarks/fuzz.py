"""Fuzzing the HTTP API by its own OpenAPI document: no 5xx, no undocumented answer.

Arguments go to schemathesis. Only predictions have a worker: other jobs of random parameters wait, and never run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.batching import NAME, bag, cpu_worker, register
from benchmarks.http import HOST, door
from benchmarks.services import relay, services

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "fuzzing"  # the document names every kind's parameters: to cover each by itself takes an hour
STREAMS = "/events$"  # have no end while their job waits


def main() -> int:
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        sys.exit("schemathesis is not installed: pip install schemathesis, in an environment of its own if you like")
    with services(), tempfile.TemporaryDirectory() as made:
        from benchmarks.jobs import noop

        register(bag(Path(made) / "bag"))
        noop.submit_many([{} for _ in range(3)])
        settings = {"GRISTMILL_PREDICT_MODEL": NAME, "GRISTMILL_PREDICT_SECONDS": "60"}
        with relay(), cpu_worker(), door(**settings, GRISTMILL_WEB_BODY_BYTES="100kB") as port:
            place = f"http://{HOST}:{port}"
            command = [program, "run", f"{place}/api/openapi.json", "--url", place, "--checks", CHECKS]
            options = ["--phases", PHASES, "--exclude-path-regex", STREAMS, "--request-timeout", "90"]
            return subprocess.run([*command, *options, *sys.argv[1:]]).returncode


if __name__ == "__main__":
    sys.exit(main())
