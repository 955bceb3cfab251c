"""Enqueue a job and wait for it; this process needs no torch: python examples/enqueue.py USER"""

import sys

from jobs.recommend import cache
from jobs.recommend.tasks import pretrain_user

user = sys.argv[1] if len(sys.argv) > 1 else "196"
job = pretrain_user.submit(username=user)
print(f"enqueued {job.id}: {job.get(timeout=300)}")
best = cache.read(user, top_k=5)
print([item for item, _ in best.items] if best else "the history changed meanwhile: ask again")
