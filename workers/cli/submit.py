"""The command `submit KIND`: every declared job, with the fields of its parameters model as options."""

import inspect
import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from broker.queues import PRIORITIES, QUEUES
from jobs.training.options import Acceleration

if TYPE_CHECKING:
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
    fields = job.params_model.model_fields
    schema = job.params_model.model_json_schema(by_alias=False)
    found = {
        name: _Field(name, each, schema.get("$defs", {}), required=fields[name].is_required())
        for name, each in schema.get("properties", {}).items()
    }

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
    parameters = [found[name].parameter(panels[name]) for name in ordered] + _own_parameters(job)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    description = job.params_model.__doc__ or job.body.__doc__ or ""
    made.command(job.name, help=escape(inspect.cleandoc(description)), no_args_is_help=False)(run)
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


class _Field:
    """One parameter of a job on the command line.

    Values go to the parameters model as they were typed, so that they are refused with the same line as anywhere
    else; what is neither text, number nor list of them is written as JSON.
    """

    def __init__(self, name: str, schema: Mapping[str, Any], defs: Mapping[str, Any], *, required: bool) -> None:
        self.name, self.required = name, required
        self.help = str(schema.get("description", ""))
        self.default = schema.get("default")
        kinds = [_resolve(each, defs) for each in schema.get("anyOf", [schema])]
        kinds = [each for each in kinds if each.get("type") != "null"] or [{}]
        lists = [each for each in kinds if each.get("type") == "array"]
        self.many = bool(lists)
        self.kind = _resolve(lists[0].get("items") or {}, defs) if lists else kinds[0]
        self.is_json = self.kind.get("type") in (None, "object", "array") and "enum" not in self.kind
        self.is_flag = not self.many and self.kind.get("type") == "boolean"

    def parameter(self, panel: str | None = None) -> inspect.Parameter:
        """The option as typer reads it from a signature; `panel`: the heading that it comes under in the help."""
        dashed = self.name.replace("_", "-")
        option = f"param-{dashed}" if dashed in _OWN else dashed
        flags = f"--{option}/--no-{option}" if self.is_flag else f"--{option}"
        metavar = None if self.is_flag else self._metavar()
        kind: Any = bool if self.is_flag else list[str] if self.many else str
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[kind if self.required else kind | None,
                                 typer.Option(flags, metavar=metavar, help=self._help(), rich_help_panel=panel)],
            default=inspect.Parameter.empty if self.required else None,
        )  # fmt: skip

    def read(self, kind: str, given: Any) -> Any:
        """What the option was given, for the parameters model."""
        if self.is_flag or not self.is_json:
            return given
        return [self._from_json(kind, each) for each in given] if self.many else self._from_json(kind, given)

    def _from_json(self, kind: str, given: str) -> Any:
        from broker.errors import InvalidParams

        try:
            return json.loads(given)
        except ValueError:
            if self.kind.get("type") is None:
                return given  # any value: what is no JSON is text
            raise InvalidParams(f"{kind}: {self.name}={given!r} is no JSON: write it like '[1, 2]' or '{{}}'") from None

    def _metavar(self) -> str:
        if "enum" in self.kind:
            return " | ".join(str(each) for each in self.kind["enum"])
        if "const" in self.kind:
            return str(self.kind["const"])
        names = {"string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "true | false"}
        return names.get(self.kind.get("type", ""), "JSON")

    def _help(self) -> str:
        limits = [
            f"{words} {self.kind[name]}"
            for name, words in (("minimum", "at least"), ("exclusiveMinimum", "more than"),
                                ("maximum", "at most"), ("exclusiveMaximum", "less than"))
            if name in self.kind
        ]  # fmt: skip
        sentences = [self.help, f"{', '.join(limits)}.".capitalize() if limits else "", self.many * "May be repeated."]
        default = "" if self.default is None else f"[default: {_typed(self.default)}]"
        return escape(" ".join(filter(None, (*sentences, default))))


def _resolve(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return defs[reference.rsplit("/", 1)[-1]] if reference else schema


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
