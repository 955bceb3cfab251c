"""What a judge is asked where the run's configuration gives no prompt of its own."""

from __future__ import annotations

from jobs.edit.adapters.base import ScoreRequest

SYSTEM = "You judge edits of images. You are strict, and you look at what was done, not at how pretty it is."
USER = """The first image is the original{described}. The second image is the result of this instruction:
{instruction}

Was the instruction followed, wholly and not further than asked? Is the rest as it was? Is the result free of
damage? {answer}"""
IN_WORDS = (
    'Answer with JSON only: {{"reasoning": "one or two sentences", "score": number}}, with a score from {low:g} '
    "(not followed, or the image is ruined) to {high:g} (done perfectly)."
)
ONE_DIGIT = "Answer with a single digit from {low:g} (not followed, or ruined) to {high:g} (done perfectly)."


def texts(request: ScoreRequest, scale: tuple[float, float], answer: str = IN_WORDS) -> tuple[str, str]:
    """System and user text: the request's own, each, where it has one."""
    described = f" ({request.description})" if request.description else ""
    wanted = answer.format(low=scale[0], high=scale[1])
    user = request.prompt or USER.format(described=described, instruction=request.instruction, answer=wanted)
    return request.system or SYSTEM, user
