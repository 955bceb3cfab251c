"""Bring the schema up to date, and say whether it is."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.engine import engine


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade() -> None:
    """Run every migration that this database has not had yet."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(_config(), "head")


def is_current() -> bool:
    """Whether the database has every migration of this code."""
    with engine().connect() as connection:
        at = MigrationContext.configure(connection).get_current_revision()
    return at == ScriptDirectory.from_config(_config()).get_current_head()
