"""When a worker's process may be forked."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, threading
from workers.pool import clean

print(clean())
ended = threading.Event()
other = threading.Thread(target=ended.wait)
other.start()
print(clean())
ended.set()
other.join()
sys.modules["torch"] = None
print(clean())
"""


def test_only_a_process_without_threads_and_torch_is_forked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )

    assert done.stdout.split() == ["True", "False", "False"], done.stderr
