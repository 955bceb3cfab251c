"""Read by schemathesis: most requests of the fuzzing run name what there is, and every answer is counted.

Runs in the environment of schemathesis and imports nothing of ours. GRISTMILL_FUZZ names a folder. Its `there.json`
has names by parameter, or by operation and parameter, and the headers that an operation is sent by turns; its
`answers` gets a line for each answer.
"""

import json
import os
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis

FOLDER = Path(os.environ["GRISTMILL_FUZZ"])
THERE: dict[str, list[Any]] = json.loads((FOLDER / "there.json").read_text())
AS_MADE = 4  # each so many-th request stays as it was generated
STREAM = "/events"
LONGEST_S = 0.2  # to wait for what nobody runs

_turns: dict[str, Any] = defaultdict(count)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Put in what there is."""
    operation = case.operation.label
    turn = next(_turns[operation])
    if "wait" in (query := case.query or {}):
        query["wait"] = LONGEST_S
    # schemathesis learns names from answers: that of a job that waits would be a stream without end
    if turn % AS_MADE == AS_MADE - 1 and not operation.endswith(STREAM):
        return
    for name in case.path_parameters or ():
        if named := THERE.get(f"{operation} {name}") or THERE.get(name):
            case.path_parameters[name] = named[turn % len(named)]
    if headers := THERE.get(operation):
        case.headers.update(headers[turn % len(headers)])


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count."""
    with (FOLDER / "answers").open("a") as lines:
        lines.write(f"{case.operation.label}\t{response.status_code}\n")
