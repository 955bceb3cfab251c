"""Lines of JSON: of structlog and of the standard library, about the job that runs, without secrets."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from broker import log
from broker.settings import settings


@pytest.fixture(autouse=True)
def as_json(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRISTMILL_LOG", "json")
    settings.cache_clear()
    log.as_json.cache_clear()
    log.configure()
    yield
    log.about()
    monkeypatch.undo()
    settings.cache_clear()
    log.as_json.cache_clear()


def said_by(logger: logging.Logger, **extra: Any) -> dict[str, Any]:
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, "%s went", ("it",), None, extra=extra)
    return dict(json.loads(log.Json().format(record)))


def test_an_event_is_an_object_with_the_job_that_runs_also_from_another_thread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.about(job_id="j1", kind="tests.add", attempt=2)

    thread = threading.Thread(target=lambda: structlog.get_logger().info("loaded", rows=3))
    thread.start()
    thread.join()

    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "loaded", "rows": 3, "level": "info", "job_id": "j1", "kind": "tests.add", "attempt": 2}


def test_a_library_speaks_of_the_job_that_runs_and_celery_of_the_one_it_names() -> None:
    celerys = {"data": {"id": "j2", "name": "tests.fail"}}
    assert said_by(logging.getLogger("celery"), **celerys)["job_id"] == "j2"

    log.about(job_id="j1", kind="tests.add", attempt=2)
    line = said_by(logging.getLogger("somebody"))

    assert (line["event"], line["level"], line["logger"]) == ("it went", "warning", "somebody")
    assert (line["job_id"], line["kind"], line["attempt"]) == ("j1", "tests.add", 2)


def test_secrets_are_hidden_and_the_line_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().info("asked", why='password="sesame"', urls=["redis://me:sesame@host/0"], at={"o": object()})

    text = capsys.readouterr().err
    assert "sesame" not in text
    assert json.loads(text)["urls"] == ["redis://me:***@host/0"]


def test_what_structlog_writes_to_a_stderr_that_is_a_logger_is_not_wrapped_again() -> None:
    line = json.dumps({"event": "x", "level": "info", "job_id": "j1"})
    record = logging.LogRecord("celery.redirected", logging.WARNING, __file__, 1, line, (), None)

    assert log.Json().format(record) == line


def test_a_traceback_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("failed")
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())

    for line in (capsys.readouterr().err, log.Json().format(record)):
        assert "ValueError: no" in json.loads(line)["exception"]


def test_lines_of_other_programs_are_wrapped_and_those_that_are_json_are_joined() -> None:
    assert json.loads(log.told("ready.", process="cpu"))["event"] == "ready."
    event = {"event": "x", "level": "info"}
    assert json.loads(log.told(json.dumps(event), process="cpu")) == event | {"process": "cpu"}
    assert json.loads(log.told("{broken", process="cpu"))["event"] == "{broken"
