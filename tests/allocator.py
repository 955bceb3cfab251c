"""A device with little memory, pretended on the CPU: torch.OutOfMemoryError where an allocator would raise it."""

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocator(TorchDispatchMode):
    """Within it, the tensors that this thread's operations make have `limit_bytes` together, until they are freed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit, self.peak, self.refused = limit_bytes, 0, 0
        self._blocks: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), names: Any = None) -> Any:
        result = operation(*args, **(names or {}))
        given = {storage._cdata for storage in _storages((args, names))}  # what a view or a write in place shares
        for storage in _storages(result):
            if storage._cdata not in given:
                self._allocate(storage)
        return result

    def _allocate(self, storage: torch.UntypedStorage) -> None:
        self._blocks = {key: block for key, block in self._blocks.items() if not block[0].expired()}
        block = StorageWeakRef(storage)
        self._blocks.setdefault(block.cdata, (block, storage.nbytes()))
        used = sum(size for _, size in self._blocks.values())
        if used > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {storage.nbytes()} bytes. "
                f"GPU 0 has a total capacity of {self.limit} bytes of which {used - storage.nbytes()} are in use."
            )
        self.peak = max(self.peak, used)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [each.untyped_storage() for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
