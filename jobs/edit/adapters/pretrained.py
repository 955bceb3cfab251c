"""What the adapters of large models share: where the weights are, how large, which version, and how they are freed."""

from __future__ import annotations

import gc
import hashlib
import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from broker.errors import GristmillError, summary
from jobs.edit.adapters.base import Adapter, AdapterError

if TYPE_CHECKING:
    import torch

DType = Literal["auto", "bf16", "fp16", "fp32"]
_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_WORK = 1.15  # what batches take beside the weights, as a share; `memory_gb` says it better for large batches
_SAMPLE = 65_536  # bytes of a weight file's begin and end that its digest reads: all of it would take minutes


class NotLoaded(GristmillError):
    """A hub did not give a model: another attempt may get it."""


class Pretrained(Adapter):
    """A model in Hugging Face's form: a folder, of which nothing is downloaded, or a name on the hub.

    Weights are read from safetensors only, and no code of a model is run. bf16 on a GPU and float32 on a CPU unless
    `dtype` says otherwise. memory_bytes: as `memory_gb` says, else from the weight files that are here, else by the
    size in the model's name.
    """

    _marker = "config.json"  # the file that every such folder has
    _billions = 8.0  # parameters, where neither files nor the name tell

    def __init__(self, model: str, revision: str | None, dtype: DType, device: str, memory_gb: float | None) -> None:
        self.model, self.revision, self.device = model, revision, device
        self._dtype, self._memory_gb = dtype, memory_gb
        self._held: Any = None  # with .to(device), as diffusers' pipelines and transformers' models have it
        self._on: torch.device | None = None

    def _open(self, options: dict[str, Any], dtype: torch.dtype) -> Any:
        """The model in host memory, by `from_pretrained(self.model, **options)`."""
        raise NotImplementedError

    @property
    def memory_bytes(self) -> int:
        if self._memory_gb is not None:
            return int(self._memory_gb * 1e9)
        size = _BYTES[self._format()]
        if folder := self._folder():
            return int(_WORK * size * sum(_parameters(file) for file in _files(folder, ".safetensors")))
        named = re.search(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", self.model)
        return int(_WORK * size * 1e9 * (float(named[1]) if named else self._billions))

    def load(self) -> None:
        """Raises AdapterError for what is no such model, NotLoaded when a hub fails, and what tells of no memory."""
        import torch
        from safetensors import SafetensorError

        from jobs.edit.adapters import processor
        from jobs.training import device as devices
        from jobs.training import memory

        processor.quiet()
        local = Path(self.model).is_dir()
        if not local and (self.model[0] in "/.~" or self.model.count("/") > 1):
            raise AdapterError(f"model {self.model!r}: there is no such folder on this worker: put it there")
        try:
            self._on = devices.resolve(self.device)
            dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self._format()]
            options = {"local_files_only": local, "revision": self.revision}
            self._held = self._open(options, dtype).to(self._on)
        except AdapterError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            if memory.ran_out(error):
                raise
            said = f"model {self.model!r} cannot be loaded: {summary(error)}"
            if isinstance(error, OSError) and not local:
                raise NotLoaded(f"{said}: give a folder, or a name on a hub that this worker reaches") from None
            raise AdapterError(f"{said}: give a folder or a name on the hub that holds {type(self).__name__}") from None

    def unload(self) -> None:
        self._held = None
        _free()

    def offload(self) -> bool:
        if self._held is None or self._on is None or self._on.type == "cpu":
            return False
        self._held.to("cpu")
        _free()
        return True

    def restore(self) -> None:
        if self._held is not None:
            self._held.to(self._on)

    def identity(self) -> dict[str, Any]:
        found = {name: _installed(name) for name in ("torch", "transformers", "diffusers", "torchvision")}
        known = {"model": self.model, "revision": self._version(), "dtype": self._dtype, "versions": found}
        return {**super().identity(), **known}

    def _format(self) -> str:
        if self._dtype != "auto":
            return self._dtype
        from jobs.training import device as devices

        try:
            return "bf16" if devices.resolve(self.device).type == "cuda" else "fp32"
        except ValueError as error:
            raise AdapterError(str(error)) from None

    def _folder(self) -> Path | None:
        """Where its files are on this machine, if they are."""
        if Path(self.model).is_dir():
            return Path(self.model)
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.model, self._marker, revision=self.revision)
        except HFValidationError:  # neither a folder here nor a name that a hub could have
            return None
        return Path(found).parent if isinstance(found, str) else None

    def _version(self) -> str | None:
        """The hub's commit, or for a folder a digest; what was asked for where its files are not on this machine."""
        folder = self._folder()
        if folder is None:
            return self.revision
        return _digest(folder) if Path(self.model).is_dir() else folder.name


def _files(folder: Path, *endings: str) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in endings and not hidden and path.is_file():
            yield path


def _parameters(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header (github.com/huggingface/safetensors, "Format")."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        total = 0
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
        return total
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError):
        return file.stat().st_size // 2  # what is wrong with it is said when it is loaded


def _digest(folder: Path) -> str:
    """Of all configuration, and of each weight file's name, size, begin and end."""
    found = hashlib.sha256()
    for file in _files(folder, ".json", ".txt", ".jinja", ".safetensors"):
        size = file.stat().st_size
        found.update(f"{file.relative_to(folder).as_posix()} {size}\n".encode())
        with file.open("rb") as opened:
            if file.suffix != ".safetensors" or size <= 2 * _SAMPLE:
                found.update(opened.read())
            else:
                found.update(opened.read(_SAMPLE))
                opened.seek(-_SAMPLE, 2)
                found.update(opened.read())
    return f"folder-{found.hexdigest()[:16]}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a worker that only collects a run's results
        return None


def _free() -> None:
    """What nobody holds any more leaves host and device."""
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
