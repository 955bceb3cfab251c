"""Enqueue a job and wait for it; this process needs no torch: python examples/enqueue.py USER"""

import sys

from broker.errors import GristmillError
from jobs.recommend import cache
from jobs.recommend.tasks import pretrain_user

user = sys.argv[1] if len(sys.argv) > 1 else "196"
try:
    job = pretrain_user.submit(username=user)
except GristmillError as error:  # nobody knows this user, say: nothing was recorded
    sys.exit(f"enqueue.py: {error}")
print("enqueued", job.id, flush=True)
print(job.get(timeout=300))
best = cache.read(user, top_k=5)
print([item for item, _ in best.items] if best else "the history changed meanwhile: ask again")
