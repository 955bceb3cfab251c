"""The queues and the priorities, by the names users type."""

from typing import Final

# Hardware classes. A queue per resident model ("gpu.edit") belongs to the class before the dot.
QUEUES: Final = ("gpu", "cpu")

# Redis serves 0 first, and 0 is also kombu's default: every message carries its priority explicitly.
PRIORITIES: Final = {"interactive": 0, "normal": 3, "bulk": 6}
PRIORITY_STEPS: Final = tuple(PRIORITIES.values())
