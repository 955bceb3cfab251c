"""From the class that a run's configuration names to an adapter: the built-in ones, and those that a worker allows."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from jobs.edit.adapters.base import Adapter, AdapterError, Editor, Scorer
from jobs.edit.settings import settings

BUILT_IN = {
    "procedural": "jobs.edit.procedural.ProceduralEditor",
    "qwen-image-edit": "jobs.edit.adapters.qwen_edit.QwenImageEdit",
    "qwen-image-edit-plus": "jobs.edit.adapters.qwen_edit.QwenImageEditPlus",
    "measured": "jobs.edit.measured.MeasuredScorer",
    "qwen-vl": "jobs.edit.adapters.qwen_vl.QwenVL",
    "endpoint": "jobs.edit.adapters.endpoint.Endpoint",
}
_VARIABLE = "GRISTMILL_EDIT_ADAPTERS"

A = TypeVar("A", bound=Adapter)


def editor(spec: Mapping[str, Any], device: str = "auto") -> Editor:
    """The editor of a run's configuration: {"class": short name or dotted path, "parameters": {…}}.

    device: the worker's, for adapters whose parameters name none. Nothing is loaded yet. Raises AdapterError.
    """
    return _made(Editor, spec, device)


def scorer(spec: Mapping[str, Any], device: str = "auto") -> Scorer:
    """As `editor`, for a scorer."""
    return _made(Scorer, spec, device)


def _made(kind: type[A], spec: Mapping[str, Any], device: str) -> A:
    role = kind.__name__.lower()
    path = str(spec.get("class", ""))
    parameters = dict(spec.get("parameters") or {})
    found = _class(kind, role, path)
    try:
        inspect.signature(found).bind(**parameters)
    except TypeError as error:
        takes = ", ".join(inspect.signature(found).parameters) or "none"
        raise AdapterError(f"{role} {path!r}: {error}: its parameters are: {takes}") from None
    try:
        made = found(**parameters)
    except AdapterError as error:
        raise AdapterError(f"{role} {path!r}: {error}") from None
    except Exception as error:  # somebody else's class
        raise AdapterError(f"{role} {path!r}: {type(error).__name__}: {error}: correct its parameters") from None
    made.parameters = parameters
    if "device" not in parameters:
        made.device = device
    return made


def _class(kind: type[A], role: str, path: str) -> type[A]:
    dotted = BUILT_IN.get(path, path)
    if path not in BUILT_IN and not _allowed(path):
        raise AdapterError(f"{role} {path!r}: {_refused(path)}")
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AdapterError(f"{role} {path!r}: cannot be imported ({error}): {_remedy(path)}") from None
    except Exception as error:  # somebody else's module
        raise AdapterError(f"{role} {path!r}: its module fails: {type(error).__name__}: {error}: correct it") from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        base = f"jobs.edit.adapters.base.{kind.__name__}"
        raise AdapterError(f"{role} {path!r}: is no {role}: name a class derived from {base}")
    return found


def _allowed(path: str) -> bool:
    """Whether this worker's own list has the class, by its path or as one of "package.module.*"."""
    listed = [each.strip() for each in settings().edit_adapters.split(",")]
    return "." in path and (path in listed or f"{path.rpartition('.')[0]}.*" in listed)


def _refused(path: str) -> str:
    if "." in path:
        return f"this worker does not allow this class: add it to {_VARIABLE} there if it is to be trusted"
    near = difflib.get_close_matches(path, BUILT_IN, n=2, cutoff=0.5)
    return f"unknown: did you mean {' or '.join(near)}?" if near else f"unknown: use one of {', '.join(BUILT_IN)}"


def _remedy(path: str) -> str:
    return "pip install 'gristmill[worker,edit]'" if path in BUILT_IN else "correct the path or PYTHONPATH"
