"""The commands that run processes: up, down, worker, relay, beat, flower, metrics."""

from enum import StrEnum
from typing import Annotated

import typer

from workers.cli.output import say, show

commands = typer.Typer()


class Kind(StrEnum):
    """The hardware classes of workers."""

    gpu = "gpu"
    cpu = "cpu"


@commands.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything answers.")] = False,
) -> None:
    """Start everything: embedded servers unless URLs are set, the migrations, every process of the Procfile."""
    import workers.up
    from broker.log import told

    if detach:
        workers.up.detach(say)
        return
    raise typer.Exit(workers.up.up(lambda line: say(told(line))))


@commands.command()
def down() -> None:
    """Stop what `up` started, its embedded servers included."""
    import workers.up

    stopped = workers.up.down(say)
    show({"stopped": stopped}, lambda out: out.print("stopped" if stopped else "nothing was running"))


@commands.command()
def worker(
    kind: Annotated[Kind, typer.Argument(help="The hardware class whose queues it works.")],
    processes: Annotated[int | None, typer.Option(min=1, help="cpu: how many processes.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="cpu: threads of each process.")] = None,
    gpus_per_worker: Annotated[
        int, typer.Option(min=1, help="gpu: how many each sees, for jobs that train on several at once.")
    ] = 1,
    queue: Annotated[list[str] | None, typer.Option(help="Only this queue, such as gpu.edit; may be repeated.")] = None,
) -> None:
    """Run a worker in the foreground. gpu: one per GPU; without a GPU its jobs run on the CPU."""
    from workers.process import run_worker

    if kind is Kind.gpu and (processes or threads):
        raise typer.BadParameter("--processes and --threads are for cpu workers: a gpu worker is one per GPU")
    if kind is Kind.cpu and gpus_per_worker > 1:
        raise typer.BadParameter("--gpus-per-worker is for gpu workers")
    run_worker(kind, processes, threads, queue, gpus_per_worker)


@commands.command()
def relay() -> None:
    """Run the relay: it sends what is due and takes back what lost its worker."""
    from workers.process import run_relay

    run_relay()


@commands.command()
def beat() -> None:
    """Run the scheduler of weekly and daily jobs. Two of them submit each job once."""
    from workers.process import run_beat

    run_beat()


@commands.command()
def flower(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The next free port is taken.")] = 5555,
    host: Annotated[str, typer.Option(help="The address to listen on; others need a login.")] = "127.0.0.1",
) -> None:
    """Run Flower, to watch workers and jobs. GRISTMILL_FLOWER_AUTH=user:password makes it ask for a login."""
    from workers.process import run_flower

    run_flower(port, host)


@commands.command()
def metrics(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The next free port is taken.")] = 9464,
    host: Annotated[str, typer.Option(help="The address to listen on. There is no login.")] = "127.0.0.1",
) -> None:
    """Serve metrics to Prometheus, from the ledger."""
    from workers.metrics import serve

    serve(host, port)
