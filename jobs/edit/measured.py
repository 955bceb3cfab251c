"""The embedded scorer: measures whether what was asked happened, by how much, and whether the rest was kept.

It reads the instruction with the same grammar as the embedded editor, and judges by the pixels alone: it never makes
the edit itself to compare with. It is no learned judge of beauty or of content: it cannot see that the wrong object was
changed in a sensible way, it does not read words, and it has no opinion on an instruction outside of its grammar, which
is an error for that pair, not a score. docs/recipes/edit-instructions.md has what is measured and its limits.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.edit.adapters.base import Scored, Scorer, ScoreRequest
from jobs.edit.grammar import NotUnderstood, parse


class MeasuredScorer(Scorer):
    """Score = sqrt(adherence · preservation), each of 0-10, as VIEScore's O = sqrt(SC · PQ) (Ku et al. 2024, eq. 2)."""

    name = "measured scorer"
    scale = (0.0, 10.0)

    def __init__(self) -> None:
        pass

    @property
    def memory_bytes(self) -> int:
        """On the host: its libraries, 60 MB, and what it makes of two pictures of 20 megapixels."""
        return 150_000_000

    def load(self) -> None:
        from jobs.edit.measure import pair  # noqa: F401  imports scikit-image

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        return [self._score(request) for request in requests]

    def _score(self, request: ScoreRequest) -> Scored:
        from jobs.edit.measure.finding import Unmeasurable
        from jobs.edit.measure.pair import measure

        try:
            found = measure(request.original, request.edited, parse(request.instruction))
        except (NotUnderstood, Unmeasurable, ValueError) as error:
            return Scored(None, error=f"cannot be measured: {error}")
        adherence, preservation = 10 * found.adherence, 10 * found.preservation
        score = (adherence * preservation) ** 0.5
        parts = {"adherence": round(adherence, 2), "preservation": round(preservation, 2)}
        return Scored(round(score, 2), parts, found.words)
