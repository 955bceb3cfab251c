"""The commands of the web door: web, tokens."""

import sys
from datetime import timedelta
from importlib.util import find_spec
from typing import Annotated

import typer

from workers.cli.output import note, show, table

commands = typer.Typer()
tokens = typer.Typer(no_args_is_help=True)
commands.add_typer(tokens, name="tokens", help="Who may call the web door.")


@commands.command()
def web(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; others than loopback need a token.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The next free port is taken.")] = None,
) -> None:
    """Serve the HTTP API: submit, watch and read jobs, predict. On the loopback address it needs no token."""
    from db.settings import SettingsError
    from workers.process import become

    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise SettingsError("the web door is not installed: pip install 'gristmill[web]'")
    given = {"GRISTMILL_WEB_HOST": host, "GRISTMILL_WEB_PORT": port}
    # A program of its own: the doors stand beside each other, and neither imports the other.
    become([sys.executable, "-m", "web"], {name: str(value) for name, value in given.items() if value is not None})


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose it is, such as the app's name.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit or admin; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="For how long it is valid; for ever if not given.")] = None,
) -> None:
    """Make a token and print it, the only time that it is seen. Scopes: read and submit, unless others are given."""
    from db import token
    from db.engine import session

    with session() as opened:
        secret = token.create(opened, name, scope or ["read", "submit"], None if days is None else timedelta(days=days))
    note("keep it: only a digest of it is stored")
    show({"name": name, "token": secret}, lambda out: out.print(secret, markup=False, soft_wrap=True))


@tokens.command("list")
def list_tokens() -> None:
    """List the tokens, revoked ones too; not what they are."""
    from db import token
    from db.engine import session

    with session() as opened:
        found = token.listed(opened)
    data = [
        {
            "name": each.name, "scopes": each.scopes, "created_at": each.created_at,
            "expires_at": each.expires_at, "revoked_at": each.revoked_at,
        }
        for each in found
    ]  # fmt: skip
    rows = [
        [each.name, ", ".join(each.scopes), *(f"{at.astimezone():%Y-%m-%d %H:%M}" if at else "" for at in moments)]
        for each in found
        for moments in [(each.created_at, each.expires_at, each.revoked_at)]
    ]
    headings = ["name", "scopes", "made", "expires", "revoked"]
    empty = "no tokens: make one with `gristmill tokens create NAME`"
    show(data, lambda out: out.print(table(headings, rows) if rows else empty, soft_wrap=not rows))


@tokens.command("revoke")
def revoke_token(name: str) -> None:
    """End a token: within some seconds it opens nothing any more."""
    from db import token
    from db.engine import session

    with session() as opened:
        token.revoke(opened, name)
    show({"revoked": name}, lambda out: out.print(f"{name} is revoked", markup=False))
