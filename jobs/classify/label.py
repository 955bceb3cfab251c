"""The job that asks a teacher about all texts once, and keeps what it says for the students."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import numpy as np
from sqlalchemy import select

from broker.context import Context
from broker.errors import JobError
from db import registry
from db.artifact import Artifact
from db.store import ArtifactError
from jobs.classify.tasks import Label
from jobs.text import artifact, data, lesson
from jobs.text.artifact import Loaded
from jobs.text.augment import MASK
from jobs.text.lesson import Texts
from jobs.text.metrics import measure
from jobs.training.device import resolve
from jobs.training.memory import batcher
from jobs.training.registered import find

Array = np.ndarray[Any, Any]

_AT_ONCE = 4096  # texts, of like lengths together, between two looks at whether the job was cancelled
_SAVED_S = 60.0  # between checkpoints
_SAID = ("rows", "classes", "unlabelled", "copies", "seed", "teacher", "ensemble", "dev")


def label(ctx: Context, params: Label) -> dict[str, Any]:
    ctx.progress(0, 1, stage="read", message=params.data)
    try:
        dataset = data.asked(params)
        texts = lesson.gather(dataset, params.unlabelled, params.copies, params.seed)
    except ValueError as error:
        raise JobError(str(error)) from None
    with ctx.session() as session:
        model = find(session, params.teacher or f"teacher-{dataset.name}")
    teacher = {"name": model.name, "version": model.version, "artifact": model.artifact_digest}
    # Two names of one artifact are one teacher. The seed is part of the texts, and of the n-gram model.
    of = [texts.fingerprint(), model.artifact_digest, params.ensemble, params.seed]
    key = hashlib.sha256(json.dumps(of).encode()).hexdigest()
    if before := _before(ctx, key):
        return _result(before.digest, before.manifest, reused=True)
    try:
        loaded = artifact.load_model(ctx.store.fetch(model.artifact_digest), resolve(ctx.device))
    except (ArtifactError, ValueError) as error:
        raise JobError(f"teacher {model.name}@{model.version}: {error}") from None
    if loaded.classes != dataset.classes:
        said = f"knows {len(loaded.classes)} classes {_few(loaded.classes)}, the data has {_few(dataset.classes)}"
        raise JobError(f"teacher {model.name}@{model.version} {said}: train a teacher on this data")
    logits, facts = _ask(ctx, loaded, texts, params, key)
    about = {"texts": texts.fingerprint(), "unlabelled": len(texts.unlabelled), "copies": params.copies}
    teacher |= {"parameters": loaded.manifest["parameters"]}
    with ctx.store.scratch() as folder:
        lesson.write(folder, logits, {"key": key, "teacher": teacher, "seed": params.seed, **about, **facts})
        stored = ctx.store.put(folder)
    with ctx.session() as session:
        registry.record(session, stored, lesson.KIND, ctx.job_id)
    return _result(stored.digest, stored.manifest, reused=False)


def _ask(ctx: Context, loaded: Loaded, texts: Texts, params: Label, key: str) -> tuple[Array, dict[str, Any]]:
    """(N, C) of all texts, and how good that is on dev."""
    sizes = batcher(ctx, f"{loaded.manifest['architecture']}, inference", loaded.device)
    everything, dataset = texts.all(), texts.dataset
    labels = dataset.dev.labels
    mask = loaded.tokenizer.mask_token or loaded.tokenizer.unk_token or ""
    plain = len(texts.plain)
    asked = [*everything[:plain], *(text.replace(MASK, mask) for text in everything[plain:])]
    parts, saved = [_saved(ctx, key, len(dataset.classes))], time.monotonic()
    done = len(parts[0])
    for part in lesson.in_parts(lambda some: loaded.logits(some, sizes), asked[done:], _AT_ONCE):
        parts.append(part)
        done += len(part)
        ctx.progress(done, len(asked), stage="label", message=f"{done:,} of {len(asked):,} texts")
        if ctx.stopping or time.monotonic() - saved >= _SAVED_S:
            parts = [np.concatenate(parts)]
            _save(ctx, key, parts[0])
            saved = time.monotonic()
    logits = np.concatenate(parts)
    on_dev = loaded.logits(dataset.dev.texts, sizes)
    dev, weight = {"teacher": measure(on_dev, labels)}, 0.0
    if params.ensemble is not False:
        ctx.progress(len(asked), len(asked), stage="ensemble")
        model = lesson.grams(texts, params.seed)
        dev_grams = model.log_probs(dataset.dev.texts)
        dev["n-grams"] = measure(dev_grams, labels)
        # A teacher that knows more than n-grams do teaches better alone: a bag 89.0 against 88.5 on dev.
        if params.ensemble or dev["teacher"]["accuracy"] <= dev["n-grams"]["accuracy"]:
            logits, on_dev, weight = lesson.ensemble(texts, everything, logits, on_dev, model, dev_grams)
            dev["ensemble"] = measure(on_dev, labels)
    described = {"with": "n-gram logistic regression", "weight": weight} if weight else None
    return logits, {"ensemble": described, "dev": dev}


def _save(ctx: Context, key: str, logits: Array) -> None:
    with ctx.store.scratch() as folder:
        np.save(folder / f"{key}.npy", logits, allow_pickle=False)
        ctx.save_checkpoint(folder)


def _saved(ctx: Context, key: str, classes: int) -> Array:
    """(N, C) of the first N texts, which an earlier attempt left; N is 0 where there is none."""
    folder = ctx.load_checkpoint()
    file = folder / f"{key}.npy" if folder else None
    return np.load(file, allow_pickle=False) if file and file.is_file() else np.empty((0, classes), dtype=np.float32)


def _before(ctx: Context, key: str) -> Artifact | None:
    """The same teacher's logits of the same texts, if they were made before and are still there.

    Found in the table of artifacts, which is where the clean-up deletes them: a key elsewhere would have to be deleted
    with them. Nothing breaks where they are gone: they are computed again.
    """
    same = select(Artifact).where(Artifact.kind == lesson.KIND, Artifact.manifest["key"].astext == key)
    with ctx.session() as session:
        found = session.scalars(same.order_by(Artifact.created_at.desc()).limit(1)).one_or_none()
    return found if found is not None and ctx.store.exists(found.digest) else None


def _result(digest: str, manifest: dict[str, Any], *, reused: bool) -> dict[str, Any]:
    return {"logits": digest, "reused": reused} | {name: manifest[name] for name in _SAID}


def _few(names: tuple[str, ...]) -> str:
    return "(" + ", ".join(names[:3]) + (", …)" if len(names) > 3 else ")")
