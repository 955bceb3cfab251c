"""The command `submit KIND`: every declared job, with the fields of its parameters model as options."""

import inspect
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from broker.queues import PRIORITIES, QUEUES
from workers.cli.once import Once

if TYPE_CHECKING:
    from broker.fields import Field
    from broker.job import Job

# What `submit` itself takes; a job's parameter of the same name becomes --param-<name>.
_OWN = ("priority", "queue", "in", "wait", "json", "help")
_TRAINING = "How to train (docs/recipes/train.md)"


class _Declared(TyperGroup):
    """A command for each declared job, made when it is asked for: `gristmill --help` imports no job."""

    def list_commands(self, ctx: Any) -> list[str]:
        from broker.job import declared

        return list(declared())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from broker.job import find

        return _command(find(cmd_name))


commands = typer.Typer()
commands.add_typer(
    typer.Typer(cls=_Declared, no_args_is_help=True, subcommand_metavar="KIND [--PARAMETER VALUE]..."),
    name="submit",
    help="Submit a job; `gristmill submit KIND --help` shows its parameters.",
)


def _command(job: "Job") -> Any:
    """The command that submits one job, as typer makes it from a function of this signature."""
    from broker.fields import fields
    from jobs.training.options import Acceleration

    found = fields(job.params_model)

    def run(_in: float | None, _queue: str | None, _priority: str | None, _wait: bool, **given: Any) -> None:
        from broker.errors import InvalidParams
        from workers.cli.jobs import submit

        values = {name: each.read(job.name, given[name]) for name, each in found.items() if given[name] is not None}
        if _queue is not None and _queue.split(".")[0] not in QUEUES:
            raise InvalidParams(f"queue={_queue!r} is of no known class: begin it with one of {', '.join(QUEUES)}")
        submit(job, values, queue=_queue, priority=_priority, countdown=_in, wait=_wait)

    # What every training job takes comes after what is the job's own.
    shared = Acceleration.model_fields if issubclass(job.params_model, Acceleration) else {}
    panels = {name: _TRAINING if name in shared else None for name in found}
    ordered = sorted(found, key=lambda name: panels[name] is not None)
    parameters = [_parameter(found[name], panels[name]) for name in ordered] + _own_parameters(job)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    description = job.params_model.__doc__ or job.body.__doc__ or ""
    made.command(job.name, cls=Once, help=escape(inspect.cleandoc(description)), no_args_is_help=False)(run)
    return typer.main.get_command(made)


def _own_parameters(job: "Job") -> list[inspect.Parameter]:
    option = partial(typer.Option, rich_help_panel="Submission")
    names = " | ".join(PRIORITIES)
    own: list[tuple[str, Any, Any]] = [
        ("_in", float | None, option("--in", metavar="SECONDS", help="Run it no sooner.")),
        ("_queue", str | None, option("--queue", help=f"Another queue than {job.queue_name}.")),
        ("_priority", str | None, option("--priority", metavar=names, help=f"Another than {job.priority_name}.")),
        ("_wait", bool, option("--wait", help="Wait for its end and print the result.")),
    ]
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[kind, option], default=False if kind is bool else None,
        )
        for name, kind, option in own
    ]  # fmt: skip


def _parameter(field: "Field", panel: str | None = None) -> inspect.Parameter:
    """The option as typer reads it from a signature; `panel`: the heading that it comes under in the help."""
    dashed = field.name.replace("_", "-")
    option = f"param-{dashed}" if dashed in _OWN else dashed
    flags = f"--{option}/--no-{option}" if field.is_flag else f"--{option}"
    metavar = None if field.is_flag else _metavar(field)
    kind: Any = bool if field.is_flag else list[str] if field.many else str
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind if field.required else kind | None,
                             typer.Option(flags, metavar=metavar, help=_help(field), rich_help_panel=panel)],
        default=inspect.Parameter.empty if field.required else None,
    )  # fmt: skip


def _metavar(field: "Field") -> str:
    if field.choices:
        return " | ".join(str(each) for each in field.choices)
    names = {"string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "true | false"}
    return names.get(field.kind.get("type", ""), "JSON")


def _help(field: "Field") -> str:
    from broker.fields import typed

    default = "" if field.default is None else f"[default: {typed(field.default)}]"
    return escape(" ".join(filter(None, (field.description, field.bounds, field.many * "May be repeated.", default))))
