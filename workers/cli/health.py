"""The commands that look after the installation: migrate and doctor."""

import typer
from rich.console import Console

from workers.cli.output import show, table

commands = typer.Typer()


@commands.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    from db.migrate import upgrade
    from db.settings import redact, settings

    upgrade()
    where = redact(settings().postgres_url())
    show({"migrated": where}, lambda out: out.print(f"up to date: {where}", markup=False, soft_wrap=True))


@commands.command()
def doctor() -> None:
    """Check what is needed, the queues' workers and the relay, and tell what was lost in the last hour.

    Exit code 1 when something is wrong now, or could not be looked at.
    """
    from workers.doctor import as_data, diagnose

    checks = diagnose()

    def render(out: Console) -> None:
        said = {True: "ok", False: "FAILED", None: "?"}
        rows = [[c.name, said[c.ok], c.found, c.remedy] for c in checks]
        out.print(table(["check", "", "found", "what to do"], rows))

    show(as_data(checks), render)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
