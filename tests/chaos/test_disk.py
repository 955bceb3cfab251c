"""Promise 15: a disk that is full says so, shows nothing half-written, and the job goes on when there is room again."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from db.store import ArtifactStore, Checkpoints, NoSpace
from tests.chaos import hard_jobs
from tests.processes import start_relay, start_worker
from tests.rows import row, starts

pytestmark = pytest.mark.timeout(600)
ENV = {"GRISTMILL_JOBS": "tests.jobs,tests.chaos.hard_jobs"}
MEGABYTE = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "gristmill-test", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here (this needs root): {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    filler = place / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
    os.truncate(filler, filler.stat().st_size - leave)
    return filler


def free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def wait(until: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("what", ["checkpoint", "artifact"])
@pytest.mark.parametrize("limit", ["disk", "file size"])
def test_a_full_disk_is_named_leaves_nothing_half_written_and_the_job_goes_on_later(
    quiet: Path,
    tmp_path: Path,
    what: str,
    limit: str,
    request: pytest.FixtureRequest,
    figure: Callable[[int, str], None],
) -> None:
    place = request.getfixturevalue("small_disk") if limit == "disk" else tmp_path / "disk"
    go, full = tmp_path / "go", tmp_path / "full"
    relay = start_relay(quiet, **ENV)
    worker = start_worker(quiet, concurrency=1, GRISTMILL_ARTIFACTS_URL=str(place / "store"), **ENV)
    store = ArtifactStore(str(place / "store"), tmp_path / "home")
    try:
        job = hard_jobs.keep.submit(wait_before=what, go=str(go), full=str(full))
        checkpoints = Checkpoints(store, job.id)
        wait(lambda: (job.info or {}).get("stage") == "waits")
        saved = checkpoints.load()
        assert saved is not None
        if limit == "disk":
            filler = fill(place, leave=MEGABYTE // 2)
        else:
            full.touch()
        left = free(place)

        go.touch()
        wait(lambda: starts(job.id) >= 3)  # it was tried, and tried again

        error = row(job.id).error
        assert error is not None
        assert error["type"] == "NoSpace"
        assert error["message"].startswith(f"cannot write to {place / 'store'}, ")
        assert "MB free: " in error["message"]
        assert "upkeep.clean_artifacts" in error["message"]
        assert store.list() == []
        assert checkpoints.load() == saved
        assert int((saved / "step").read_text()) == (2 if what == "checkpoint" else 3)
        assert len((saved / "weights").read_bytes()) == MEGABYTE

        if limit == "disk":
            wait(lambda: free(place) == left)  # a try that is going on has its half deleted in a moment
            filler.unlink()
        full.unlink(missing_ok=True)
        result = job.get(timeout=120)

        assert result["begun"] == (2 if what == "checkpoint" else 3)
        assert store.list() == [result["digest"]]
        assert not list((place / "store" / ".partial").iterdir())
        figure(15, f"no room for {what}s ({limit}): error in the row, nothing half-written, resumed from step "
                   f"{result['begun']} in attempt {result['attempt']}")  # fmt: skip
    finally:
        worker.stop()
        relay.stop()


def test_a_full_home_is_named_whatever_library_meets_it(small_disk: Path, tmp_path: Path) -> None:
    """What is to be stored is written under the home first, by safetensors among others, whose errors name no file."""
    store = ArtifactStore(str(tmp_path / "store"), small_disk)
    fill(small_disk, leave=MEGABYTE // 2)
    left = free(small_disk)

    said = f"cannot write to {small_disk}.* MB free: .*make room.* GRISTMILL_HOME"
    with pytest.raises(NoSpace, match=said), store.scratch() as folder:
        save_file({"weight": torch.zeros(MEGABYTE)}, folder / "model.safetensors")

    assert free(small_disk) == left
