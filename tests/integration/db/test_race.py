"""Everything that moves jobs, at once from many threads: each job ends once, and nobody is told of a deadlock.

What a whole system does is told by tests/chaos; here there is the ledger alone, so that its statements meet as often as
they can. Redis is a queue that loses some messages and delivers others twice; a worker's name is shared by two threads,
some of its leases run out at once and it comes back to them late, and now and then it stops or loses a process.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from random import Random
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from db import barrier, batch, lease, ledger, outbox
from db.batch import Failure
from db.engine import autocommit, session
from db.ledger import Claimed, Lost, NewJob
from db.outbox import Nudge

PAST = datetime(2020, 1, 1, tzinfo=UTC)
ERROR = {"type": "ValueError", "module": "builtins", "message": "no", "traceback": None}
WINDOW, WORKERS = 3, 6  # workers have a name for each two of them
ROUNDS, EACH = 10, 16  # of each of two who submit, and how many jobs at once
TICKS = 1500  # of a relay: many times what it takes

_LIVE = text("SELECT count(*) FROM job WHERE state IN ('PENDING', 'STARTED', 'RETRY')")
_ENDS = text("""
    SELECT job.id, job.state, array_agg(to_state), job.attempt - spared <= max_attempts,
           job.state <> 'SUCCESS' OR result = to_jsonb(job.attempt) FROM job
    LEFT JOIN job_event ON job_id = job.id AND to_state IN ('SUCCESS', 'FAILURE', 'REVOKED') GROUP BY job.id""")
_SENT = text("""
    SELECT lane, count(*) FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL AND owner IS NOT NULL
    GROUP BY lane""")
_OPEN = text("SELECT count(*) FROM barrier WHERE released_at IS NULL")


class Race:
    """What the threads share."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[UUID | None] = SimpleQueue()
        self.acknowledged: set[UUID] = set()
        self.succeeded: Counter[UUID] = Counter()
        self.most_sent: Counter[str] = Counter()  # of an owner, at any time
        self._submitters = 2
        self._lock = Lock()

    def submit(self, seed: int) -> None:
        random = Random(seed)
        for number in range(ROUNDS):
            jobs = [self._new(random, number) for _ in range(EACH)]
            with autocommit() as on:
                ids, due = ledger.submit(on, jobs)
                self.send(due)
                for lane in {each.lane for each in jobs if each.lane}:
                    self.send(each.id for each in outbox.let_go(on, lane, WINDOW))
            with self._lock:
                self.acknowledged.update(ids)
                known = list(self.acknowledged)
            for each in random.sample(known, 4):
                with session() as transaction:
                    cancelled = ledger.cancel(transaction, each)
                self.settled(cancelled)
        with self._lock:
            self._submitters -= 1

    def _new(self, random: Random, number: int) -> NewJob:
        fields: dict[str, Any] = {"id": uuid4(), "kind": "tests.fan", "params": {"children": random.randrange(12)}}
        shape = random.choice(["key", "owner", "owner", "batch", "batch", "both", "late", "parent", "parent"])
        if shape in ("owner", "both"):
            fields["owner"] = random.choice(["alice", "bob"])
        if shape in ("batch", "both"):
            fields["batch"] = "a"
        if shape == "key":
            fields["key"] = f"{number} {random.randrange(9)}"
        if shape == "late":
            fields["expires_at"] = PAST
        if shape != "parent":
            fields["kind"] = "tests.one"
        due = PAST + timedelta(minutes=random.randrange(9))
        return NewJob(**fields, queue="cpu", priority=3, max_attempts=3, backoff_s=0, run_at=due)

    def send(self, ids: Iterable[UUID]) -> None:
        for each in ids:
            self.messages.put(each)

    def work(self, seed: int) -> None:
        random, name = Random(seed), f"w{seed // 2}"
        late: list[list[Claimed]] = []
        while (job_id := self.messages.get()) is not None:
            chance = random.random()
            if chance < 0.03:
                continue  # lost
            if chance > 0.97:
                self.messages.put(job_id)
            with autocommit() as on:
                while late and random.random() < 0.5:
                    self._run(on, random, name, late.pop(0))
                lease_s = random.choice([60, 60, -1])
                leader = ledger.claim(on, job_id, name, lease_s)
                if leader is None:
                    continue
                together = [leader, *batch.join(on, leader, name, lease_s, 4)]
                for lane in {each.lane for each in together if each.lane}:
                    self.send(each.id for each in outbox.let_go(on, lane, WINDOW))
                if lease_s < 0:
                    late.append(together)  # by then the relay may have taken it back, and another have it
                else:
                    lease.renew(on, [leader.id], name, lease_s)
                    self._run(on, random, name, together)

    def _run(self, on: Connection, random: Random, name: str, together: list[Claimed]) -> None:
        leader = together[0]
        ledger.progress(on, leader.id, leader.attempt, {})
        if leader.kind == "tests.fan" and self._fan_out(leader):
            return
        random.shuffle(together)
        match random.randrange(12):
            case 0:
                self.settled(batch.fail(on, [Failure(each, ERROR, permanent=False) for each in together]))
            case 1:
                batch.hand_over(on, together)
            case 2:
                self.settled(lease.lose(on, leader.id, name, ERROR))
            case 3:
                lease.give_back(on, name)
            case _:
                ended = batch.succeed(on, [(each, each.attempt) for each in together])
                with self._lock:
                    self.succeeded.update(each.id for each in ended if each.state == "SUCCESS")
                self.settled(ended)
        for each in together:  # what was to be cancelled is neither handed over nor given back
            self.settled(ledger.revoke(on, each.id, each.attempt))

    def _fan_out(self, parent: Claimed) -> bool:
        """The parent waits for its children; False when they are there: it has been resumed."""
        with session() as transaction:
            to_be_cancelled = lease.hold(transaction, parent.id, parent.attempt)
            if to_be_cancelled is None or to_be_cancelled or barrier.is_released(transaction, parent.id):
                return to_be_cancelled is None
            if barrier.group(transaction, parent.id):  # its lease was lost, or it was given back, before they ended
                return ledger.suspend(transaction, parent.id, parent.attempt)
            made = [
                NewJob(uuid4(), "tests.one", "cpu", 3, {}, group_id=parent.id, batch="a", backoff_s=0)
                for _ in range(parent.params["children"])
            ]
            ledger.submit(transaction, made)
            barrier.wait_for(transaction, parent.id, len(made), parent_id=parent.id)
            if not ledger.suspend(transaction, parent.id, parent.attempt):
                raise AssertionError("a row that is held changed hands")
        return True

    def settled(self, ended: list[Lost]) -> None:
        for group_id in {each.group_id for each in ended if each.group_id}:
            with session() as transaction:
                barrier.release(transaction, group_id)

    def relay(self, seed: int) -> None:
        for _ in range(TICKS):
            with self._lock:
                submitting = self._submitters > 0
            with autocommit() as on:
                if not submitting and not on.execute(_LIVE).scalar():
                    break
                self.settled([*lease.rescue(on, 0, limit=5), *ledger.expire(on, limit=5)])
                for group_id in barrier.ready(on):
                    with session() as transaction:
                        barrier.release(transaction, group_id)
                nudges: list[Nudge] = [*outbox.take_due(on, 10), *outbox.let_all_go(on, WINDOW)]
                self.send(each.id for each in nudges)
                with self._lock:
                    self.most_sent |= Counter({row[0]: row[1] for row in on.execute(_SENT)})
                outbox.unsend_overtaken(on, 0)
                if self.messages.empty():
                    outbox.unsend(on, outbox.sent_ids(on, "cpu", 0))
        else:
            raise AssertionError("jobs were lost: nobody ends them")


def test_each_job_ends_once_whoever_else_moves_it(on: Connection) -> None:
    race = Race()

    with ThreadPoolExecutor(WORKERS + 4) as pool:
        workers = [pool.submit(race.work, seed) for seed in range(WORKERS)]
        others: list[Callable[[int], None]] = [race.submit, race.submit, race.relay, race.relay]
        try:
            for each in [pool.submit(run, seed) for seed, run in enumerate(others)]:
                each.result()
        finally:
            for _ in workers:
                race.messages.put(None)
        for each in workers:
            each.result()

    ends = list(on.execute(_ENDS))
    assert [row for row in ends if row[2] != [row[1]]] == []  # one end each, and the row says which
    assert [row for row in ends if not row[3]] == []  # no more attempts than it may have
    assert [row for row in ends if not row[4]] == []  # the result is of the attempt that held the job
    assert race.acknowledged <= {row[0] for row in ends}
    assert race.succeeded == Counter(row[0] for row in ends if row[1] == "SUCCESS")
    assert on.execute(_OPEN).scalar() == 0
    assert max(race.most_sent.values()) <= WINDOW + 1  # one that was returned meanwhile may go before the others
