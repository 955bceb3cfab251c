"""An option that holds one value is given once: the parser would keep the last and be silent about the others."""

import difflib
from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

_ALIKE = 0.8


class Once(TyperCommand):
    """A command that refuses what was given and would not be read."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if isinstance(option, TyperOption) and times > 1 and not (option.multiple or option.is_flag):
                ctx.fail(f"{option.opts[0]} is given {times} times, and holds one value: {self._remedy(ctx, option)}")
        return super().parse_args(ctx, args)

    def _remedy(self, ctx: Any, option: TyperOption) -> str:
        """One that may be repeated is named where it is a letter or two away."""
        lists = [each.opts[0] for each in self.get_params(ctx) if isinstance(each, TyperOption) and each.multiple]
        near = difflib.get_close_matches(option.opts[0], lists, 1, _ALIKE)
        return f"leave one, or repeat {near[0]}" if near else "leave one"


def refuse_repeats(commands: typer.Typer) -> None:
    """Make each of these commands, and of the groups among them, one that does."""
    for command in commands.registered_commands:
        command.cls = Once
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            refuse_repeats(group.typer_instance)
