"""The command line, as its own tests run it."""

from tests.integration.cli.conftest import gristmill as gristmill
