"""What a machine offers, found without torch."""

from pathlib import Path

import pytest

from workers import hardware
from workers.hardware import Gpu, cores, gpus

THREE = [Gpu("0", "A"), Gpu("1", "B"), Gpu("2", "C")]


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_nvidia_smi", lambda: THREE)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_container_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(64)))

    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert cores() == 2
    (tmp_path / "cpu.max").write_text("10000 100000\n")
    assert cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores() == 64


@pytest.mark.usefixtures("three_gpus")
def test_all_gpus_are_found_when_nothing_narrows_them() -> None:
    assert gpus() == THREE


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    ("visible", "devices"),
    [("", []), ("2,0", ["2", "0"]), ("1", ["1"]), ("1,7,2", ["1"]), ("-1", []), ("GPU-abc", ["GPU-abc"])],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    monkeypatch: pytest.MonkeyPatch, visible: str, devices: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert [gpu.device for gpu in gpus()] == devices


def test_the_driver_is_asked_where_nvidia_smi_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_nvidia_smi", list)
    monkeypatch.setattr(hardware, "NVIDIA", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   12\n")

    assert gpus() == [Gpu("0", "NVIDIA L4")]


def test_the_memory_of_the_device_that_jobs_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_nvidia_smi", lambda: [Gpu("0", "NVIDIA T4, 15360 MiB"), Gpu("1", "A, 23028 MiB")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    found = [hardware.device_bytes(device) for device in ("auto", "cuda:1", "cuda:2", "cpu")]
    assert found == [15360 << 20, 23028 << 20, None, None]


@pytest.mark.parametrize(
    ("visible", "found"),
    [("", []), ("1", [("gpu1", 5, 23028)]), ("GPU-a,1,2", [("gpu0", 15, 15360), ("gpu1", 5, 23028)])],
)
def test_memory_is_told_of_the_gpus_that_a_worker_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, found: list[tuple[str, int, int]]
) -> None:
    said = "0, GPU-a, 15, 15360\n1, GPU-b, 5, 23028\n2, GPU-c, [N/A], [N/A]\n"
    monkeypatch.setattr(
        hardware.subprocess, "run", lambda query, **_: hardware.subprocess.CompletedProcess(query, 0, stdout=said)
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert [(each.device, each.used >> 20, each.total >> 20) for each in hardware.gpu_memory()] == found
