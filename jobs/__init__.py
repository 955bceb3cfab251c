"""What each job is and does, one folder a family."""

import os

# torch's profiler reads it when torch is imported, and without it writes two lines to stderr for every profile.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
