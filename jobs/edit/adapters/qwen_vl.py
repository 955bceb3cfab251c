"""Qwen3-VL (dense and MoE, arXiv 2511.21631) and Qwen2.5-VL (arXiv 2502.13923) as scorers, through transformers.

What has run: the real classes with tiny weights, on CPUs. Not run here: the real weights, and any GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from jobs.edit.adapters import asking
from jobs.edit.adapters.answer import Unparsable, parse
from jobs.edit.adapters.base import AdapterError, Scored, Scorer, ScoreRequest, checked
from jobs.edit.adapters.pretrained import DType, Pretrained

if TYPE_CHECKING:
    import torch

_PROCESSORS = {
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen3_vl_moe": "Qwen3VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
}


class QwenVL(Pretrained, Scorer):
    """Shows original and edited image to the model, in that order, with the prompt, and reads its answer.

    how = "generate": the model writes, greedily and in one batch, and its answer is parsed (answer.py). What is
    unparsable is asked again alone, sampled at `temperature` from the pair's own seed, `tries` times in all.
    how = "expected": one forward pass; the score is the expected value over the digits of the scale at the place where
    the answer begins (G-Eval, arXiv 2303.16634, section 2), continuous and without parsing. The prompt must ask for a
    single digit, and the scale must begin and end at one. Where less than `least` of the probability is on those digits
    the model did not answer so: unparsable.
    max_pixels: larger images are scaled down to so many; a token is a square of 32 (Qwen2.5-VL: 28) pixels.
    """

    @checked
    def __init__(
        self,
        *,
        model: Annotated[str, Field(min_length=1)] = "Qwen/Qwen3-VL-8B-Instruct",
        revision: str | None = None,
        how: Literal["generate", "expected"] = "generate",
        scale: tuple[float, float] = (0.0, 10.0),
        tries: Annotated[int, Field(ge=1, le=10)] = 3,
        temperature: Annotated[float, Field(gt=0, le=2)] = 0.7,
        max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512,
        least: Annotated[float, Field(ge=0, le=1)] = 0.5,
        max_pixels: Annotated[int, Field(ge=32 * 32)] = 1024 * 1024,
        dtype: DType = "auto",
        device: str = "auto",
        memory_gb: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__(model, revision, dtype, device, memory_gb)
        if not scale[0] < scale[1]:
            raise AdapterError(f"scale={list(scale)}: the first number is to be the lower one")
        if how == "expected" and not set(scale) <= set(range(10)):
            raise AdapterError(f"scale={list(scale)}: how=expected reads one digit: use a scale within 0 to 9")
        self.name, self.scale = f"QwenVL {model}", scale
        self._how, self._tries, self._temperature, self._least = how, tries, temperature, least
        self._max_tokens, self._max_pixels = max_tokens, max_pixels
        self._processor: Any = None

    def unload(self) -> None:
        self._processor = None
        super().unload()

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        """See Scorer.score_batch; raises what the model raises."""
        import torch

        with torch.inference_mode():
            if self._how == "expected":
                return self._expected(requests)
            answers = self._answers(requests)
            return [self._read(request, *answer) for request, answer in zip(requests, answers, strict=True)]

    def _read(self, request: ScoreRequest, text: str, cut: bool) -> Scored:
        for tried in range(1, self._tries + 1):
            try:
                answer = parse(text, self.scale, cut=cut)
                return Scored(answer.score, answer.parts, answer.words)
            except Unparsable as error:
                why = str(error)
            if tried < self._tries:
                [(text, cut)] = self._answers([request], request.seed + tried)
        return Scored(None, words=text[:2000], error=f"{why} (in {self._tries} answers)", unparsable=True)

    def _answers(self, requests: Sequence[ScoreRequest], seed: int | None = None) -> list[tuple[str, bool]]:
        """What the model writes to each, and whether it was cut off; greedily, or sampled from a seed."""
        import torch

        inputs = self._inputs(requests)
        options: dict[str, Any] = {"max_new_tokens": self._max_tokens, "do_sample": seed is not None}
        if seed is not None:
            options["temperature"] = self._temperature
        devices = [self._on] if self._on is not None and self._on.type == "cuda" else []
        with torch.random.fork_rng(devices):
            if seed is not None:
                torch.manual_seed(seed)
            written = self._held.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]  # (N, new tokens)
        ends = self._held.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        texts = self._processor.batch_decode(written, skip_special_tokens=True)
        return [(text, not ends & set(row.tolist())) for text, row in zip(texts, written, strict=True)]

    def _expected(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        import torch

        values = range(int(self.scale[0]), int(self.scale[1]) + 1)
        ids = [self._processor.tokenizer.convert_tokens_to_ids(str(digit)) for digit in values]
        logits = self._held(**self._inputs(requests), logits_to_keep=1).logits[:, -1].float()  # (N, vocabulary)
        on = logits.softmax(-1)[:, ids]  # (N, digits)
        mass = on.sum(-1)
        share = on / mass[:, None]
        digits = torch.tensor(values, device=share.device, dtype=share.dtype)
        mean = share @ digits
        spread = (share @ digits.square() - mean.square()).clamp(min=0).sqrt()
        return [self._weighed(*each) for each in zip(mean.tolist(), spread.tolist(), mass.tolist(), strict=True)]

    def _weighed(self, mean: float, spread: float, mass: float) -> Scored:
        said = f"{mass:.0%} of the probability is on the digits {self.scale[0]:g} to {self.scale[1]:g}"
        if not mass >= self._least:  # not true of NaN either
            return Scored(None, error=f"{said}, less than {self._least:.0%}", unparsable=True)
        score = min(max(mean, self.scale[0]), self.scale[1])
        return Scored(score, {"spread": spread, "mass": mass}, f"expected value {score:.2f} +- {spread:.2f}; {said}")

    def _inputs(self, requests: Sequence[ScoreRequest]) -> Any:
        """Token ids, padded on the left so that every answer begins at the same place, and both images' patches."""
        wanted = asking.ONE_DIGIT if self._how == "expected" else asking.IN_WORDS
        talks = [_messages(*asking.texts(each, self.scale, wanted)) for each in requests]
        texts = self._processor.apply_chat_template(talks, tokenize=False, add_generation_prompt=True)
        images = [[each.original, each.edited] for each in requests]
        return self._processor(text=texts, images=images, padding=True, return_tensors="pt").to(self._on)

    def _open(self, options: dict[str, Any], dtype: torch.dtype) -> Any:
        import transformers

        from jobs.edit.adapters import processor

        kind = transformers.AutoConfig.from_pretrained(self.model, **options).model_type
        if kind not in _PROCESSORS:
            raise AdapterError(f"model {self.model!r} is a {kind}: give one of {', '.join(_PROCESSORS)}")
        self._processor = processor.load(getattr(transformers, _PROCESSORS[kind]), self.model, **options)
        self._processor.tokenizer.padding_side = "left"
        limits = self._processor.image_processor.size
        least = min(limits["shortest_edge"], self._max_pixels)
        self._processor.image_processor.size = {"shortest_edge": least, "longest_edge": self._max_pixels}
        model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
            self.model, dtype=dtype, use_safetensors=True, **options
        )
        return model.eval()


def _messages(system: str, user: str) -> list[dict[str, Any]]:
    from jobs.edit.adapters.processor import plain

    asked = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": plain(user)}]
    told = [{"type": "text", "text": plain(system)}]
    return [{"role": "system", "content": told}, {"role": "user", "content": asked}]
