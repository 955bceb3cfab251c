"""The options of a policy, for every command that makes lists by one."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

_option = functools.partial(typer.Option, rich_help_panel="Policy")
_weight = functools.partial(_option, metavar="0..1")
_year = functools.partial(_option, metavar="YEAR")
# by their names in jobs.recommend.params.Policy
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "diversity": (float, _weight("--diversity", help="Weight of being unlike the items above.")),
    "novelty": (float, _weight("--novelty", help="Weight of being known to few.")),
    "calibration": (float, _weight("--calibration", help="Weight of the user's own mix of genres.")),
    "genres": (list[str], _option("--genre", help="Only of this, or another so given.")),
    "without_genres": (list[str], _option("--without-genre", help="None of this. May be repeated.")),
    "tags": (list[str], _option("--tag", help="Only with this, or another so given.")),
    "without_tags": (list[str], _option("--without-tag", help="None with this. May be repeated.")),
    "year_from": (int, _year("--from", help="No older items.")),
    "year_to": (int, _year("--to", help="No newer items.")),
    "adult": (bool, _option("--adult", help="Items marked as adult, too.")),
}


def policy_options(*, leave_out: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command these options; what of them was given comes as its parameter `policy`, checked."""
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, option], default=None
        )
        for name, (kind, option) in _OPTIONS.items() if name != leave_out
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(policy=_given({each.name: given.pop(each.name) for each in added}), **given)

        own = [each for name, each in inspect.signature(command).parameters.items() if name != "policy"]
        # typer reads the options from a signature
        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
        return run

    return decorate


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """What of a policy was given. Raises InvalidParams for what is none."""
    from broker.params import parse
    from jobs.recommend.params import Policy

    asked = {name: value for name, value in values.items() if value not in (None, [])}
    parse("policy", Policy, (), asked)
    return asked
