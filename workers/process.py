"""What the Procfile's processes are: the command lines of workers, beat and Flower, and their environment.

What a command needs is imported when it is called: a worker's is on its way to another program, and should not take
half a second for that.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from workers.hardware import Gpu, cores, gpus

ROOT = Path(__file__).resolve().parents[1]
CELERY = [sys.executable, "-m", "celery", "-q", "-A", "broker.app"]
FLOWER_PORT = 5555


def queues_of(kind: str, number: int = 0) -> list[str]:
    """The queues of a hardware class: its own, and one for each resident model that a declared job names.

    In another order for each worker, so that workers of several models begin with different ones.
    """
    from broker.job import declared

    named = {job.queue_name for job in declared().values() if job.queue_name.split(".")[0] == kind}
    queues = sorted({kind, *named})
    number %= len(queues)
    return queues[number:] + queues[:number]


def worker_command(name: str, queues: Sequence[str], processes: int) -> list[str]:
    """One Celery worker (workers/start.py): prefork, so that its parent can renew leases while its children compute.

    name: its class, with a number if there are several, or its queues; without queues it takes those of its class.
    """
    return [sys.executable, "-m", "workers.start", name, str(processes), *queues]


def threads(count: int) -> dict[str, str]:
    """Let each process compute with so many threads, unless the user's environment already says.

    Threads that wait must sleep: spinning (OpenMP's default) they take the cores from whoever they wait for, and on
    two shared cores an epoch of training took three times as long.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    wanted = {**dict.fromkeys(names, str(count)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def gpu_plan(found: list[Gpu], each: int = 1) -> dict[str, dict[str, str]]:
    """Worker name to environment: one worker for each so many GPUs, which sees only its own."""
    if not found:
        return {"gpu": {"CUDA_VISIBLE_DEVICES": "", **threads(cores())}}
    shares = [",".join(gpu.device for gpu in found[begin : begin + each]) for begin in range(0, len(found), each)]
    names = [f"gpu{number}" for number in range(len(shares))] if len(shares) > 1 else ["gpu"]
    mine = threads(max(1, cores() // len(found)))  # of each process: a worker of several GPUs runs one for each
    return {name: {"CUDA_VISIBLE_DEVICES": share, **mine} for name, share in zip(names, shares, strict=True)}


def cpu_plan(processes: int | None, each: int | None) -> tuple[int, int]:
    """Processes and threads a process, so that together they fill the cores and do not fight over them."""
    total = cores()
    if processes is None:
        processes = max(1, total // (each or 2))
    return processes, each or max(1, total // processes)


def run_worker(
    kind: str,
    processes: int | None = None,
    each: int | None = None,
    queues: Sequence[str] | None = None,
    gpus_each: int = 1,
) -> None:
    """Become the worker of this hardware class; with several GPUs, run one worker for each, or each so many.

    queues: take jobs from these only, instead of from all of the class. Raises SettingsError for one of another class.
    """
    for queue in queues or ():
        if queue.split(".")[0] != kind:
            from db.settings import SettingsError

            raise SettingsError(f"queue {queue!r} is not of the class {kind}: name {kind} or {kind}.MODEL")
    name = "+".join(queues or [kind])  # of two workers of one name on a machine, remote control hears one
    if kind == "cpu":
        processes, each = cpu_plan(processes, each)
        become(worker_command(name, queues or (), processes), threads(each))
    from broker.address import tell

    found = gpus()
    plan = gpu_plan(found, gpus_each)
    if not found:
        tell("gpu worker: no GPU found, its jobs run on the CPU")
    for number, gpu in enumerate(found):
        tell(f"gpu worker {number}: {gpu.name} (CUDA_VISIBLE_DEVICES={gpu.device})")
    if len(plan) == 1:
        become(worker_command(name, queues or (), 1), plan["gpu"])
    from workers.supervisor import Supervisor

    group = Supervisor()
    for name, env in plan.items():
        group.add(name, worker_command(name, queues or (), 1), env)
    sys.exit(group.run())


def run_relay() -> None:
    """Be the relay, in this process."""
    from db.settings import settings
    from workers.relay import main

    settings().postgres_url()
    main()


def run_beat() -> NoReturn:
    """Become Celery's beat."""
    from db.settings import settings

    settings().postgres_url()
    # No pid file: a dead one would keep beat from starting, and two beats do no harm.
    become([*CELERY, "beat", "--pidfile=", "--loglevel=INFO"], {})


def run_flower(port: int = FLOWER_PORT, host: str = "127.0.0.1") -> NoReturn:
    """Become Flower, on the first free port from this one on; its address is kept for `gristmill up` and doctor.

    Raises SettingsError for another address than this machine's own while there is no login: it can shut workers down.
    """
    from importlib.util import find_spec

    from broker.address import announce, free_port, is_loopback, url
    from db.settings import SettingsError
    from workers.settings import settings

    if find_spec("flower") is None:
        raise SettingsError("Flower is not installed: pip install 'gristmill[flower]'")
    login = flower_login(settings().flower_auth)
    if not login and not is_loopback(host):
        raise SettingsError(f"--host {host} lets anybody stop workers: set GRISTMILL_FLOWER_AUTH=user:password")
    free = free_port(port, host)
    announce("flower", url(host, free))
    # In the environment: everybody on the machine can read a command line.
    arguments = [f"--address={host}", f"--port={free}", "--logging=error"]
    become([sys.executable, "-m", "workers.flower", *arguments], {"FLOWER_BASIC_AUTH": login} if login else {})


def flower_login(given: str | None) -> str:
    """The users and passwords that Flower asks for, as it takes them; "" for none. Raises SettingsError."""
    pairs = [each.strip() for each in (given or "").split(",") if each.strip()]
    for pair in pairs:
        user, _, password = pair.partition(":")
        if not user or not password:
            from db.settings import SettingsError

            raise SettingsError(
                "GRISTMILL_FLOWER_AUTH has an entry that is not user:password: separate several by commas, "
                "and use no comma in a password"
            )
    return ",".join(pairs)


def become(argv: list[str], env: Mapping[str, str]) -> NoReturn:
    """Turn into that program, so that signals and the exit code are its own."""
    environment = {**os.environ, **env}
    if (ROOT / "celeryconfig.py").exists():  # from anywhere, also in a clone that is not installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execve(argv[0], argv, environment)
