"""The command lines and environments of workers."""

import socket
import sys

import pytest

from broker.address import free_port, is_loopback
from broker.job import Params, job
from db.settings import SettingsError
from workers import process
from workers.hardware import Gpu
from workers.process import (
    cpu_plan,
    flower_login,
    gpu_plan,
    queues_of,
    run_flower,
    run_worker,
)
from workers.settings import settings


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "cores", lambda: 8)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_each_gpu_gets_a_worker_that_sees_only_that_gpu() -> None:
    plan = gpu_plan([Gpu("0", "L4"), Gpu("3", "L4")])

    assert list(plan) == ["gpu0", "gpu1"]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in plan.values()] == ["0", "3"]
    assert plan["gpu0"]["OMP_NUM_THREADS"] == "4"


def test_a_worker_may_see_several_gpus() -> None:
    found = [Gpu(str(number), "L4") for number in range(5)]

    assert [env["CUDA_VISIBLE_DEVICES"] for env in gpu_plan(found, 2).values()] == ["0,1", "2,3", "4"]
    assert gpu_plan(found, 8)["gpu"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4"


def test_one_gpu_is_one_worker_with_all_cores() -> None:
    env = gpu_plan([Gpu("1", "L4")])["gpu"]

    assert (env["CUDA_VISIBLE_DEVICES"], env["OMP_NUM_THREADS"]) == ("1", "8")


def test_without_a_gpu_one_gpu_worker_uses_all_cores() -> None:
    assert gpu_plan([])["gpu"]["OMP_NUM_THREADS"] == "8"


@pytest.mark.parametrize(
    ("asked", "planned"),
    [((None, None), (4, 2)), ((8, None), (8, 1)), ((None, 8), (1, 8)), ((2, 3), (2, 3)), ((16, None), (16, 1))],
)
def test_processes_and_threads_fill_the_cores(asked: tuple[int | None, int | None], planned: tuple[int, int]) -> None:
    assert cpu_plan(*asked) == planned


def test_the_users_own_thread_count_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    assert gpu_plan([])["gpu"]["OMP_NUM_THREADS"] == "3"


def test_a_worker_takes_the_queues_of_its_class_and_those_of_its_models_each_worker_in_another_order() -> None:
    @job("unit.edit_picture", params=Params, queue="gpu.unit")
    def edit_picture(ctx: object, params: Params) -> None: ...

    first, second = queues_of("gpu", 0), queues_of("gpu", 1)

    assert {"gpu", "gpu.unit"} <= set(first)
    assert second == [*first[1:], first[0]]


def test_a_worker_of_another_class_s_queue_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"queue 'gpu\.edit' is not of the class cpu: name cpu or cpu\.MODEL"):
        run_worker("cpu", queues=["gpu.edit"])


def test_workers_of_one_class_with_queues_of_their_own_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(process, "gpus", list)
    monkeypatch.setattr(process, "become", lambda argv, _: commands.append(argv) or sys.exit())

    for kind, queues in (("cpu", None), ("cpu", ["cpu.predict"]), ("gpu", None), ("gpu", ["gpu.edit", "gpu.score"])):
        with pytest.raises(SystemExit):
            run_worker(kind, queues=queues)

    assert [argv[3] for argv in commands] == ["cpu", "cpu.predict", "gpu", "gpu.edit+gpu.score"]


def test_a_taken_port_gives_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert free_port(port) > port
        with pytest.raises(SettingsError, match="all taken: give another with --port"):
            free_port(port, tries=1)


def test_flower_asks_for_each_login_that_is_given() -> None:
    assert flower_login("ann:grist, bob:mill:stone") == "ann:grist,bob:mill:stone"
    assert flower_login(None) == ""


def test_a_login_without_a_password_is_refused_and_not_quoted() -> None:
    with pytest.raises(SettingsError, match="not user:password") as refused:
        flower_login("ann:grist,secretly")

    assert "secretly" not in str(refused.value)


def test_without_a_login_flower_listens_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRISTMILL_FLOWER_AUTH", raising=False)
    settings.cache_clear()

    with pytest.raises(SettingsError, match="GRISTMILL_FLOWER_AUTH=user:password"):
        run_flower(host="0.0.0.0")
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "10.0.0.7", "example.org")] == [
        True, True, True, False, False,
    ]  # fmt: skip
