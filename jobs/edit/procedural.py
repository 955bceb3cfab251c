"""The embedded editor: follows a small grammar of instructions with Pillow, needs no weights and no GPU.

It knows nothing of what a picture shows: "make the sky blue" is an error that names 'sky', never a guess. It makes the
demo, the tests and the timing of runs real, and says nothing about how well a learned editor does.
docs/recipes/edit-instructions.md has what it understands.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.edit.adapters.base import Editor, EditRequest, EditResult
from jobs.edit.grammar import NotUnderstood, parse


class ProceduralEditor(Editor):
    """The same picture and instruction give the same bytes: the seed is not used, and neither are the prompts."""

    name = "procedural editor"

    def __init__(self) -> None:
        pass

    @property
    def memory_bytes(self) -> int:
        """On the host: its libraries, 30 MB, and what the hungriest operation takes on 20 megapixels."""
        return 250_000_000

    def load(self) -> None:
        from jobs.edit import operations  # noqa: F401  imports matplotlib, for its fonts

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        return [self._edit(request) for request in requests]

    def _edit(self, request: EditRequest) -> EditResult:
        from jobs.edit.operations import apply

        image = request.image
        try:
            for operation in parse(request.instruction):
                image = apply(image, operation)
        except (NotUnderstood, ValueError) as error:
            return EditResult(None, str(error))
        return EditResult(image)
