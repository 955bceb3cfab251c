"""A process that only enqueues or prints help never loads the ML stack."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "transformers", "scipy", "pyarrow", "pandas", "safetensors", "onnxruntime", "accelerate",
         "matplotlib", "onnx", "sklearn", "tokenizers", "PIL", "skimage", "yaml", "ijson", "diffusers")  # fmt: skip
DECLARATIONS = sorted(f"jobs.{path.parent.name}.tasks" for path in ROOT.glob("jobs/*/tasks.py"))

PROGRAM = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed in this test")

sys.meta_path.insert(0, Missing())
for module in {modules!r}:
    importlib.import_module(module)
{then}
print(sorted(set(sys.modules) & set({heavy!r})))
"""


def loaded(*modules: str, then: str = "") -> str:
    program = PROGRAM.format(heavy=HEAVY, modules=modules, then=then)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_there_are_declarations_to_look_at() -> None:
    assert "jobs.recommend.tasks" in DECLARATIONS


@pytest.mark.parametrize(
    "module",
    [
        "celeryconfig",
        "broker.app",
        "broker.job",
        "db.engine",
        "db.store",
        "db.read",
        "jobs.recommend.serve",
        "jobs.classify",
        "jobs.classify.serve",
        "jobs.edit.settings",
        "jobs.text.source",
        "jobs.training.options",
        "web.app",
        "workers.runner",
        "workers.lease",
        *DECLARATIONS,
    ],
)
def test_importing_it_needs_no_ml_stack(module: str) -> None:
    assert loaded(module) == "[]"


def test_the_command_line_needs_no_ml_stack() -> None:
    assert loaded("workers.cli", then="workers = sys.modules['workers.cli']; workers.application()") == "[]"


def test_the_help_of_every_job_needs_no_ml_stack() -> None:
    then = """
import typer.testing
app, run = sys.modules["workers.cli"].application(), typer.testing.CliRunner().invoke
from broker.job import declared
assert "recommend.train" in declared()
for kind in declared():
    shown = run(app, ["submit", kind, "--help"])
    assert shown.exit_code == 0, (kind, shown.output, shown.exception)
"""
    assert loaded("workers.cli", then=then) == "[]"


def test_the_examples_need_no_ml_stack() -> None:
    assert loaded("examples.webapp") == "[]"
