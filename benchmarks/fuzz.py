"""Fuzzing the HTTP API by its own OpenAPI document: no 5xx, no undocumented answer; what is submitted never runs.

Arguments go to schemathesis. No worker runs, so that a job of random parameters only waits; no wait is long.
"""

import os
import shutil
import subprocess
import sys

from benchmarks.http import HOST, door
from benchmarks.services import services

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "examples,coverage,fuzzing"
# Streams have no end while their job waits.
STREAMS = "/events$"


def main() -> int:
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        sys.exit("schemathesis is not installed: pip install schemathesis, in an environment of its own if you like")
    given = sys.argv[1:]
    with services():
        from benchmarks.jobs import noop

        noop.submit_many([{} for _ in range(3)])
        with door(GRISTMILL_PREDICT_SECONDS="0.2", GRISTMILL_WEB_BODY_BYTES="100kB") as port:
            place = f"http://{HOST}:{port}"
            command = [program, "run", f"{place}/api/openapi.json", "--url", place, "--checks", CHECKS]
            options = ["--phases", PHASES, "--exclude-path-regex", STREAMS, "--request-timeout", "20"]
            return subprocess.run([*command, *options, *given]).returncode


if __name__ == "__main__":
    sys.exit(main())
