"""Models that stay loaded in this process from one job to the next: bounded in number and memory, the least recently
used goes.

A model may have methods that are used when another needs its room: `offload() -> bool` moves it to host memory and says
whether it did, `restore()` brings it back, `unload()` frees all of it. One without them is dropped, and freed when
nobody holds it any more. What happens is recorded (db/residency.py).
"""

import gc
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from broker.errors import JobError, summary
from db import residency
from db.engine import autocommit
from db.residency import Event
from db.settings import SettingsError
from jobs.training.memory import ran_out
from workers import hardware
from workers.settings import settings

log = structlog.get_logger()
T = TypeVar("T")

_SHARE = 0.9  # of a GPU's memory, for what models declare: the rest is for what they compute
_SHARE_OF_HOST = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that models may take on the device, and on the host when they are moved out of it."""

    device: int
    host: int


class Record(Protocol):
    """Called for each model that moved."""

    def __call__(self, model: str, event: Event, seconds: float, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Resident:
    model: Any
    bytes: int
    on_device: bool = True


def _nobody(model: str, event: Event, seconds: float, size: int) -> None:
    """Nobody keeps a record."""


class ResidentModels:
    """See broker.context.ResidentModels."""

    def __init__(self, capacity: int = 4, limits: Callable[[], Limits] | None = None) -> None:
        """capacity: models on the device at once, whatever they declare."""
        self._capacity, self._limits = capacity, limits or _configured
        self._models: OrderedDict[str, _Resident] = OrderedDict()

    def get(self, key: str, load: Callable[[], T], memory_bytes: int = 0, record: Record = _nobody) -> T:
        """See broker.context.ResidentModels."""
        found = self._models.get(key)
        if found is None:
            self._make_room(key, memory_bytes, record)
            model = self._loaded(key, memory_bytes, load, record)
            found = self._models[key] = _Resident(model, memory_bytes)
        elif not found.on_device:
            self._make_room(key, found.bytes, record)
            del self._models[key]  # half restored, it is not to be found again
            self._timed(key, "restore", found.bytes, found.model.restore, record)
            found = self._models[key] = replace(found, on_device=True)
        self._models.move_to_end(key)
        return cast(T, found.model)

    def __len__(self) -> int:
        return sum(each.on_device for each in self._models.values())

    def _loaded(self, key: str, size: int, load: Callable[[], T], record: Record) -> T:
        try:
            return self._timed(key, "load", size, load, record)
        except Exception as error:
            if not len(self) or not ran_out(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what was loaded by then
            log.warning("model_did_not_fit", model=key, beside=self._here(), reason=summary(error))
        # Somebody declared too little, or nothing: it gets all there is.
        for name in self._here():
            self._put_out(name, key, record)
        return self._timed(key, "load", size, load, record)

    def _here(self) -> list[str]:
        """The models on the device, the longest unused first."""
        return [name for name, each in self._models.items() if each.on_device]

    def _make_room(self, key: str, wanted: int, record: Record) -> None:
        if wanted > (most := self._limits().device if wanted else 0):
            raise JobError(
                f"{key} needs {_gb(wanted)} and models may take {_gb(most)} here: give its queue a worker with more "
                "memory, or raise GRISTMILL_MODEL_MEMORY"
            )
        while here := self._here():
            taken = sum(self._models[name].bytes for name in here)
            if len(here) < self._capacity and (not wanted or taken + wanted <= most):
                return
            # What declares no memory makes room for nothing but its place.
            heavy = [name for name in here if self._models[name].bytes] if len(here) < self._capacity else here
            self._put_out(heavy[0], key, record)

    def _put_out(self, key: str, coming: str, record: Record) -> None:
        found = self._models[key]
        offload = getattr(found.model, "offload", None)
        if offload and self._host_has_room(found.bytes, coming, record):
            del self._models[key]  # if it cannot be moved whole, it is not used again
            began = time.perf_counter()
            if offload():
                self._models[key] = replace(found, on_device=False)
                record(key, "offload", time.perf_counter() - began, found.bytes)
                return
            self._models[key] = found
        del found, offload
        self._drop(key, record)

    def _host_has_room(self, wanted: int, coming: str, record: Record) -> bool:
        """Whether it can be moved to the host; the longest unused there goes for it, but not the one coming back."""
        most = self._limits().host
        while wanted <= most and wanted:
            moved = {name: each.bytes for name, each in self._models.items() if not each.on_device}
            if sum(moved.values()) + wanted <= most:
                return True
            if not (others := [name for name in moved if name != coming]):
                return False
            self._drop(others[0], record)
        return False

    def _drop(self, key: str, record: Record) -> None:
        found = self._models.pop(key)
        self._timed(key, "drop", found.bytes, getattr(found.model, "unload", _nothing), record)
        del found
        gc.collect()  # models are full of cycles, and the next one needs the room now

    @staticmethod
    def _timed(key: str, event: Event, size: int, work: Callable[[], T], record: Record) -> T:
        began = time.perf_counter()
        done = work()
        record(key, event, time.perf_counter() - began, size)
        return done


class ModelsOfJob:
    """The pool as one job sees it: what moves is written down as its doing."""

    def __init__(self, pool: ResidentModels, job_id: UUID) -> None:
        self._pool, self._job_id = pool, job_id

    def get(self, key: str, load: Callable[[], T], memory_bytes: int = 0) -> T:
        """See broker.context.ResidentModels."""
        return self._pool.get(key, load, memory_bytes, self._record)

    def _record(self, model: str, event: Event, seconds: float, size: int) -> None:
        log.info("model_moved", model=model, what=event, seconds=round(seconds, 3), bytes=size)
        try:
            with autocommit() as connection:
                residency.record(connection, self._job_id, os.getpid(), model, event, seconds, size)
        except (SQLAlchemyError, SettingsError) as error:  # a number is not worth a job
            log.warning("model_event_not_recorded", reason=str(error).split("\n")[0])


def _nothing() -> None:
    """A model without `unload` is freed when nobody holds it any more."""


@cache
def _configured() -> Limits:
    given = settings()
    gpu, host = hardware.device_bytes(given.device), hardware.host_bytes()
    device = int(gpu * _SHARE) if gpu else int(host * _SHARE_OF_HOST)
    return Limits(
        device=device if given.model_memory is None else given.model_memory,
        host=int(host * _SHARE_OF_HOST) if given.host_memory is None else given.host_memory,
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


resident = ResidentModels()
