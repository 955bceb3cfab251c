"""The queues and the priorities, by the names users type."""

import re
from typing import Final

# Hardware classes. A queue per resident model ("gpu.edit") belongs to the class before the dot.
QUEUES: Final = ("gpu", "cpu")

# A name is part of Redis keys, of kombu's own separators between them, and of command lines.
_NAME = re.compile(rf"(?:{'|'.join(QUEUES)})(?:\.[A-Za-z0-9_-]+)*")
NAME_CHARACTERS: Final = 100
NAMING: Final = f"begin it with one of {', '.join(QUEUES)}, and go on with a dot and letters, digits, - or _"

# Redis serves 0 first, and 0 is also kombu's default: every message carries its priority explicitly.
PRIORITIES: Final = {"interactive": 0, "normal": 3, "bulk": 6}
PRIORITY_STEPS: Final = tuple(PRIORITIES.values())


def is_queue(name: str) -> bool:
    """Whether jobs may be on a queue of this name."""
    return len(name) <= NAME_CHARACTERS and _NAME.fullmatch(name) is not None
