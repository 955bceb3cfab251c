"""A refresh of many synthetic users through real jobs, with the estimate of its finish, extrapolated to a million.

Embedded Postgres and Redis, the relay, a cpu worker for the parent and one gpu worker for the batches. The model is a
quick one of MovieLens-100K; users are stretches of its users' histories, put into the database as an import does.
Run as `python -m benchmarks.catalogue --users 100000`.
"""

import random
import sys
import time
from typing import Any
from uuid import UUID

from benchmarks.services import relay, services, worker

LONGEST = 60  # items of a history
LOOK_EVERY_S = 5.0
MILLION = 1_000_000


def put_users(count: int) -> float:
    """Returns the seconds that it took."""
    from db import recommend as rows
    from db.engine import session
    from jobs.recommend import data
    from jobs.recommend.profile import profile_hash

    chance = random.Random(0)
    histories = data.load(data.ML_100K).histories
    whole = [histories.ids(user) for user in range(len(histories))]
    began = time.perf_counter()
    for first in range(0, count, 5000):
        made = []
        for number in range(first, min(first + 5000, count)):
            of = chance.choice(whole)
            length = chance.randint(5, LONGEST)
            begin = chance.randrange(max(1, len(of) - length))
            made.append((f"user-{number:07d}", of[begin : begin + length]))
        told = [
            {"username": name, "external_id": None, "item_ids": items, "profile_hash": profile_hash(items)}
            for name, items in made
        ]
        with session() as opened:
            rows.put_profiles(opened, told)
    return time.perf_counter() - began


def watch(job_id: str) -> Any:
    """Wait for the job and say what `gristmill wait` says; returns its row."""
    from db import listen, read
    from db.engine import autocommit
    from workers.cli.views.jobs import told

    for _ in listen.until_final(UUID(job_id), timeout=7200, look_every_s=LOOK_EVERY_S):
        with autocommit() as connection:
            print(told(read.pulse(connection, UUID(job_id))), file=sys.stderr)
    with autocommit() as connection:
        return read.show(connection, job_id)


def refresh(count: int) -> dict[str, Any]:
    from db.engine import autocommit

    with services(), relay(), worker("broker.app", "gpu", 1), worker("broker.app", "cpu", 1):
        from jobs.recommend.tasks import pretrain_all, train

        trained = watch(train.submit(data="ml-100k", preset="quick").id)
        if trained.state != "SUCCESS":
            raise SystemExit(f"the training failed: {trained.message}")
        filled_s = put_users(count)
        print(f"{count:,} users put into the database in {filled_s:.0f} s", file=sys.stderr)
        done = watch(pretrain_all.submit(force=True).id)
        if done.state != "SUCCESS":
            raise SystemExit(f"the refresh failed: {done.message}")
        with autocommit() as connection:
            size = "SELECT pg_total_relation_size('{}') / 1e6"
            mb = {
                table: round(float(connection.exec_driver_sql(size.format(table)).scalar_one()), 1)
                for table in ("recommendation_cache", "user_profile", "job")
            }
            engines = connection.exec_driver_sql(
                "SELECT notes->'serving'->>'chosen' FROM job WHERE notes ? 'serving' LIMIT 1"
            ).scalar()
    result = done.result
    million_s = MILLION / result["users_per_s"]
    print(
        f"{result['users']:,} users in {result['seconds']:.0f} s: {result['users_per_s']:.0f} users/s from the job's "
        f"start to its end, of which {result['inference_seconds']:.0f} s were the model's ({engines or 'torch'})"
    )
    print(f"extrapolated, not measured: a million users in {million_s / 60:.0f} min with one worker like this one")
    return {
        "users": result["users"],
        "seconds": result["seconds"],
        "users_per_s": result["users_per_s"],
        "inference_seconds": result["inference_seconds"],
        "batches": result["batches"],
        "engine": engines or "torch",
        "mb": mb,
        "extrapolated_million_s": round(million_s),
    }
