"""Qwen's processors of images and texts, without the part for videos."""

from __future__ import annotations

from typing import Any

from transformers.utils import logging


def load(stock: Any, place: str, **options: Any) -> Any:
    """`stock.from_pretrained`, for images and texts only.

    Without torchvision transformers 5.23 cannot construct the stock ones: their slot for videos is checked against a
    class that only torchvision makes visible (transformers issues 48558, 43986). Images themselves need Pillow only.
    """
    names = classmethod(lambda _: ["image_processor", "tokenizer"])
    image_only: Any = type(f"ImageOnly{stock.__name__}", (stock,), {"get_attributes": names})
    return image_only.from_pretrained(place, **options)


def plain(text: str) -> str:
    """A text from outside without the marks of special tokens: "<|image_pad|>" in an instruction is no image."""
    return text.replace("<|", "< |")


def quiet() -> None:
    """transformers writes reports and progress bars to the terminal otherwise."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
