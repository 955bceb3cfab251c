"""Qwen-Image-Edit (arXiv 2508.02324) through diffusers: edits images as an instruction says.

What has run: the real classes with tiny weights, on CPUs. Not run here: the real weights, and any GPU.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import Field

from jobs.edit.adapters.base import Editor, EditRequest, EditResult, checked
from jobs.edit.adapters.pretrained import DType, Pretrained

if TYPE_CHECKING:
    import torch

MEGAPIXEL = 1024 * 1024
_UNDERSTOOD = 384 * 384  # pixels of what the Plus pipeline's text encoder sees
_MULTIPLE = 32
NOT_FINITE = "the model gave numbers that are not finite: use dtype bf16 or fp32"


class QwenImageEdit(Pretrained, Editor):
    """The pipeline of Qwen/Qwen-Image-Edit. Images of one shape are edited together.

    area: pixels to which every image is scaled before it is edited, and of the result, which keeps the proportions in
    multiples of 32. The pipeline itself always takes 1024 x 1024 for the image that it looks at, whatever the result's
    size, so the time for a small image would be that for a large one.
    steps, true_cfg_scale, negative_prompt: as the model's card has them (50, 4.0, " "); 1.0 is without guidance, in
    half of the time. A pair's noise comes from its own seed on the CPU: the same on every device, in every batch.
    system: of a request; if it is not empty it takes the place of the system text that the model was trained with.
    """

    _marker = "model_index.json"
    _billions = 28.9  # the transformer 20.4, its text encoder 8.3, the VAE 0.1: 58 GB in bf16
    _pipeline = "QwenImageEditPipeline"
    _model, _steps = "Qwen/Qwen-Image-Edit", 50

    @checked
    def __init__(
        self,
        *,
        model: Annotated[str, Field(min_length=1)] | None = None,
        revision: str | None = None,
        steps: Annotated[int, Field(ge=1, le=1000)] | None = None,
        true_cfg_scale: Annotated[float, Field(ge=1, le=100)] = 4.0,
        negative_prompt: str = " ",
        area: Annotated[int, Field(ge=32 * 32, le=16 * MEGAPIXEL)] = MEGAPIXEL,
        dtype: DType = "auto",
        device: str = "auto",
        memory_gb: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__(model or self._model, revision, dtype, device, memory_gb)
        self.name = f"{self._pipeline} {model or self._model}"
        self._area, self._negative = area, negative_prompt
        self._options = {
            "num_inference_steps": steps or self._steps,
            "true_cfg_scale": true_cfg_scale,
            "output_type": "np",
        }

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        """See Editor.edit_batch; raises what the pipeline raises."""
        alike: dict[Any, list[int]] = {}
        for index, request in enumerate(requests):
            alike.setdefault(self._shape(request, index), []).append(index)
        results: list[EditResult | None] = [None] * len(requests)
        for places in alike.values():
            edited = self._edit([requests[index] for index in places])
            for index, pixels in zip(places, edited, strict=True):
                results[index] = _result(pixels)
        return [each for each in results if each is not None]

    def _open(self, options: dict[str, Any], dtype: torch.dtype) -> Any:
        import diffusers
        from transformers import Qwen2VLProcessor

        from jobs.edit.adapters import processor

        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        reader = processor.load(Qwen2VLProcessor, self.model, subfolder="processor", **options)
        pipeline = getattr(diffusers, self._pipeline).from_pretrained(
            self.model, processor=reader, dtype=dtype, use_safetensors=True, **options
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _shape(self, request: EditRequest, index: int) -> Any:
        """What the requests of one call to the pipeline have in common."""
        return _dimensions(self._area, request.image), request.system

    def _edit(self, alike: list[EditRequest]) -> Any:
        """(N, H, W, 3) in [0, 1]. The pipeline scales an image, but not those of a list, for its text encoder."""
        width, height = _dimensions(self._area, alike[0].image)
        scale = self._held.image_processor.resize
        images = [scale(request.image, height, width) for request in alike]
        with self._sized(lambda _area, _ratio: (width, height, None)):
            return self._run(alike, images, height, width)

    def _run(self, alike: list[EditRequest], images: Any, height: int, width: int) -> Any:
        import torch

        with torch.inference_mode(), self._system(alike[0].system):
            return self._held(
                image=images,
                prompt=[_prompt(request) for request in alike],
                negative_prompt=[self._negative] * len(alike),
                generator=[torch.Generator("cpu").manual_seed(request.seed) for request in alike],
                height=height,
                width=width,
                **self._options,
            ).images

    @contextlib.contextmanager
    def _sized(self, dimensions: Callable[[int, float], tuple[int | None, ...]]) -> Iterator[None]:
        """The pipeline's rule for sizes, which no parameter of it reaches, is this one meanwhile."""
        import sys

        module: Any = sys.modules[type(self._held).__module__]
        before = module.calculate_dimensions
        module.calculate_dimensions = dimensions
        try:
            yield
        finally:
            module.calculate_dimensions = before

    @contextlib.contextmanager
    def _system(self, text: str) -> Iterator[None]:
        """The text encoder's template with this system text; of what it gives, the part up to the user's is dropped."""
        from jobs.edit.adapters.processor import plain

        pipeline = self._held
        before = pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx
        if text:
            head, _, rest = before[0].partition("<|im_end|>")
            own = "<|im_start|>system\n" + plain(text)
            more = len(pipeline.tokenizer(own).input_ids) - len(pipeline.tokenizer(head).input_ids)
            pipeline.prompt_template_encode = own.replace("{", "{{").replace("}", "}}") + "<|im_end|>" + rest
            pipeline.prompt_template_encode_start_idx = before[1] + more
        try:
            yield
        finally:
            pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx = before


class QwenImageEditPlus(QwenImageEdit):
    """The pipeline of Qwen/Qwen-Image-Edit-2509 and -2511, which edits one image after another.

    It refuses batches (diffusers 0.42). What its text encoder sees is scaled to 384 x 384 pixels, or to `area`, if that
    is smaller. The parameters are those of QwenImageEdit; the model's card has 40 steps.
    """

    _pipeline = "QwenImageEditPlusPipeline"
    _model, _steps = "Qwen/Qwen-Image-Edit-2511", 40

    def _shape(self, request: EditRequest, index: int) -> Any:
        return index

    def _edit(self, alike: list[EditRequest]) -> Any:
        image = alike[0].image
        width, height = _dimensions(self._area, image)
        seen = _dimensions(min(_UNDERSTOOD, self._area), image)
        with self._sized(lambda area, _ratio: seen if area == _UNDERSTOOD else (width, height)):
            return self._run(alike, [image], height, width)


def _prompt(request: EditRequest) -> str:
    from jobs.edit.adapters.processor import plain

    return plain(request.prompt)


def _dimensions(area: int, image: Image.Image) -> tuple[int, int]:
    """Width and height of about so many pixels in the image's proportions: diffusers' rule, and never 0."""
    ratio = image.width / image.height
    sides = math.sqrt(area * ratio), math.sqrt(area / ratio)
    width, height = (max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in sides)
    return width, height


def _result(pixels: Any) -> EditResult:
    import numpy as np

    if not np.isfinite(pixels).all():
        return EditResult(None, NOT_FINITE)
    return EditResult(Image.fromarray((pixels * 255).round().astype("uint8")))
