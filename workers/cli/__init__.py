"""The gristmill command line.

Each module of this package that has `commands`, a typer.Typer, adds them to the top level: a new module is enough.
"""

import importlib
import pkgutil
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from workers.cli.once import refuse_repeats
from workers.cli.output import use_json

JSON = "--json"


def application() -> typer.Typer:
    """The whole command line, gathered from the modules of this package."""
    app = typer.Typer(
        name="gristmill",
        help="A distributed job queue for machine-learning work.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        as_json: Annotated[bool, typer.Option(JSON, help="Print JSON for scripts.")] = False,
    ) -> None:
        use_json(as_json)

    for found in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        commands = getattr(importlib.import_module(f"{__name__}.{found}"), "commands", None)
        if isinstance(commands, typer.Typer):
            refuse_repeats(commands)
            app.add_typer(commands)
    return app


def main() -> NoReturn:
    """Run the command; an expected error is one line on stderr, never a traceback."""
    arguments = sys.argv[1:]
    if JSON in arguments:  # taken anywhere on the line, as people write it
        arguments = [JSON, *(each for each in arguments if each != JSON)]
    try:
        code = application()(arguments, prog_name="gristmill", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        from db.settings import redact
        from workers.cli.errors import explain

        explained = explain(error)
        if explained is None:
            sys.stderr.write(redact(traceback.format_exc()))
            sys.exit(1)
        line, code = explained
        if line:
            sys.stderr.write(f"gristmill: {line}\n")
        sys.exit(code)
    sys.exit(code if isinstance(code, int) else 0)
