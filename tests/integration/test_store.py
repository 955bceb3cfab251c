"""The artifact store, in a folder and in a bucket: stored once, never half visible, and no way out of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from db.store import ArtifactError, ArtifactStore, Checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="artifacts")
        yield "artifacts"
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/store"
    return f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.fixture
def store(url: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(url, tmp_path / "home")


def made(folder: Path, weights: str = "w") -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"kind": "test"}))
    (folder / "deep" / "weights").write_text(weights)
    return folder


def test_what_is_stored_comes_back(store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(made(tmp_path / "a"))

    fetched = store.fetch(stored.digest)

    assert (fetched / "deep" / "weights").read_text() == "w"
    assert stored.manifest == {"kind": "test"}
    assert stored.size_bytes == len('{"kind": "test"}') + 1
    assert store.list() == [stored.digest]
    assert store.fetch(stored.digest) == fetched


def test_a_downloaded_copy_can_be_forgotten_and_fetched_again(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(made(tmp_path / "model")).digest
    first = store.fetch(digest)

    store.forget(digest)

    assert first.exists() == store.local
    assert (store.fetch(digest) / "manifest.json").exists()


def test_the_same_content_is_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    first, second = store.put(made(tmp_path / "a")), store.put(made(tmp_path / "b"))
    other = store.put(made(tmp_path / "c", "different"))

    assert first.digest == second.digest
    assert sorted(store.list()) == sorted([first.digest, other.digest])


def test_writers_at_once_agree(store: ArtifactStore, tmp_path: Path) -> None:
    folders = [made(tmp_path / str(number)) for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        digests = {stored.digest for stored in pool.map(store.put, folders)}

    assert store.list() == sorted(digests)
    assert len(digests) == 1
    assert (store.fetch(*digests) / "deep" / "weights").read_text() == "w"


def test_another_process_sees_what_is_stored_and_deleted(url: str, store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(made(tmp_path / "a"))
    assert store.list() == [stored.digest]
    type(store.fs).clear_instance_cache()  # or both would share one, with what it remembers
    other = ArtifactStore(url, tmp_path / "other")

    second = other.put(made(tmp_path / "b", "second"))
    assert store.exists(second.digest)
    assert second.digest in store.list()
    other.delete(stored.digest)

    assert not store.exists(stored.digest)
    assert store.list() == [second.digest]


def test_deleting_twice_is_no_error(store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(made(tmp_path / "a"))

    store.delete(stored.digest)
    store.delete(stored.digest)

    with pytest.raises(ArtifactError, match="is not in the store"):
        store.fetch(stored.digest)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "..", "a" * 63, "A" * 64, "a" * 64 + "/x", "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(store: ArtifactStore, digest: str) -> None:
    for ask in (store.fetch, store.exists, store.delete):
        with pytest.raises(ArtifactError, match="expected 64 hexadecimal digits"):
            ask(digest)


def test_a_folder_without_or_with_a_truncated_manifest_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (folder / "manifest.json").write_text('{"kind": ')
    with pytest.raises(ArtifactError, match=r"manifest\.json is not JSON"):
        store.put(folder)

    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        store.put(folder)
    assert store.list() == []


def test_a_store_that_was_never_written_is_empty(store: ArtifactStore) -> None:
    assert store.list() == []
    store.probe()
    assert store.list() == []


def killed(*args: object) -> None:
    raise OSError("killed")


def checkpoint(folder: Path, text: str, *, extra: bool = False) -> Path:
    folder.mkdir()
    (folder / "state").write_text(text)
    if extra:
        (folder / "extra").write_text(text)
    return folder


def test_the_newest_checkpoint_wins_and_is_alone(store: ArtifactStore, tmp_path: Path) -> None:
    checkpoints = Checkpoints(store, "job")
    assert checkpoints.load() is None

    for number in range(3):
        checkpoints.save(checkpoint(tmp_path / str(number), str(number)))

    loaded = Checkpoints(store, "job").load()
    assert loaded is not None
    assert (loaded / "state").read_text() == "2"
    assert checkpoints._names() == ["00000003"]
    checkpoints.clear()
    assert checkpoints.load() is None


@contextmanager
def breaking(store: ArtifactStore) -> Iterator[None]:
    """A writer breaks off between its files and the name, or the last file, that makes them count."""
    upload = store.fs.put_file

    def upload_until_the_last(source: str, target: str) -> None:
        killed() if target.endswith("manifest.json") else upload(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("db.store._sync", killed)
        patch.setattr(store.fs, "pipe", killed)
        patch.setattr(store.fs, "put_file", upload_until_the_last)
        yield


STUCK = """
import signal, sys
from pathlib import Path
from db import store

def stay(path):
    print("stuck", flush=True)
    signal.pause()

store._sync = stay
store.ArtifactStore(sys.argv[1] + "/store", Path(sys.argv[1]) / "home").put(Path(sys.argv[2]))
"""


def test_a_half_written_checkpoint_neither_wins_nor_leaves_its_files(store: ArtifactStore, tmp_path: Path) -> None:
    checkpoints = Checkpoints(store, "job")
    checkpoints.save(checkpoint(tmp_path / "good", "good"))
    with breaking(store), pytest.raises(OSError, match="killed"):
        checkpoints.save(checkpoint(tmp_path / "half", "half", extra=True))

    loaded = checkpoints.load()
    assert loaded is not None
    assert (loaded / "state").read_text() == "good"

    checkpoints.save(checkpoint(tmp_path / "next", "next"))
    loaded = checkpoints.load()
    assert loaded is not None
    assert sorted(path.name for path in loaded.iterdir() if path.name != ".complete") == ["state"]
    assert (loaded / "state").read_text() == "next"


def test_a_half_written_artifact_is_not_visible(store: ArtifactStore, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    with breaking(store), pytest.raises(OSError, match="killed"):
        store.put(folder)

    assert store.list() == []
    stored = store.put(folder)
    assert store.list() == [stored.digest]
    assert store.unfinished() == set()


def test_what_a_killed_writer_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "home")
    folder = made(tmp_path / "a", "x" * 1000)
    os.utime(folder / "deep" / "weights", (0, 0))  # the content may be of long ago, and its writer still alive
    writer = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(tmp_path), str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"stuck\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    partial = tmp_path / "store" / ".partial"
    assert len(list(partial.iterdir())) == 1

    assert store.list() == []
    assert store.sweep(timedelta(hours=24)) == 0
    assert store.sweep(timedelta(0)) == 1
    assert list(partial.iterdir()) == []


def link_out(folder: Path) -> None:
    (folder / "secret").symlink_to("/etc/passwd")


def link_to_a_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder / "deep")


def dangling_link(folder: Path) -> None:
    (folder / "gone").symlink_to(folder / "nothing")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def name_that_is_no_text(folder: Path) -> None:
    (folder / "weights\udcff").write_text("w")


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (link_out, r"secret is a link to .*: store the file itself"),
        (link_to_a_folder, r"more is a link to .*: store the file itself"),
        (dangling_link, r"gone is a link to .*: store the file itself"),
        (pipe, r"pipe is neither a file nor a folder: leave it out"),
        (name_that_is_no_text, r"is not UTF-8: rename it"),
    ],
)
@pytest.mark.parametrize("what", ["artifact", "checkpoint"])
def test_only_files_that_are_in_the_folder_are_stored(
    store: ArtifactStore, tmp_path: Path, what: str, add: Callable[[Path], None], said: str
) -> None:
    folder = made(tmp_path / "a")
    add(folder)
    checkpoints = Checkpoints(store, "job")

    with pytest.raises(ArtifactError, match=said):
        store.put(folder) if what == "artifact" else checkpoints.save(folder)

    assert store.list() == []
    assert checkpoints.load() is None


def test_a_link_to_a_file_of_the_same_folder_is_stored_as_that_file(store: ArtifactStore, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (folder / "best").symlink_to(Path("deep") / "weights")

    fetched = store.fetch(store.put(folder).digest)

    assert (fetched / "best").read_text() == "w"
    assert not (fetched / "best").is_symlink()


@pytest.mark.parametrize("name", ["../../../evil", "deep/../../../../evil", "/evil", "deep//../evil", "a/./b"])
def test_what_another_tenant_of_the_bucket_wrote_does_not_leave_the_folder(
    bucket: str, tmp_path: Path, name: str
) -> None:
    store = ArtifactStore(f"s3://{bucket}/{tmp_path.name}", tmp_path / "home")
    stored, checkpoints = store.put(made(tmp_path / "a")), Checkpoints(store, "job")
    checkpoints.save(checkpoint(tmp_path / "c", "c"))
    client = boto3.client("s3")
    for place in (stored.digest, ".checkpoints/job/00000001"):
        client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/{place}/{name}", Body=b"evil")
    before = sorted(tmp_path.rglob("*"))

    for fetch in (lambda: store.fetch(stored.digest), checkpoints.load):
        with pytest.raises(ArtifactError, match="leads out of its folder"):
            fetch()

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["deep/weights", "more"])
def test_an_artifact_that_was_changed_in_the_bucket_is_not_used(bucket: str, tmp_path: Path, name: str) -> None:
    store = ArtifactStore(f"s3://{bucket}/{tmp_path.name}", tmp_path / "home")
    stored = store.put(made(tmp_path / "a"))

    boto3.client("s3").put_object(Bucket=bucket, Key=f"{tmp_path.name}/{stored.digest}/{name}", Body=b"evil")

    with pytest.raises(ArtifactError, match="is not what was stored"):
        store.fetch(stored.digest)


def test_a_manifest_that_is_nested_without_end_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (folder / "manifest.json").write_text("[" * 100_000)

    with pytest.raises(ArtifactError, match=r"manifest\.json is not JSON"):
        store.put(folder)
