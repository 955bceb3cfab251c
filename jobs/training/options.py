"""The acceleration options of every training job (light: no torch). What is not given, `acceleration` decides.

A job's parameters inherit from Acceleration beside their own; docs/recipes/train.md says what each option is good for.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from broker.job import Params

CHOSEN = ("precision", "micro_batch", "buckets", "tokens", "loader", "optimizer", "compile", "on_device",
          "recompute", "cache_frozen", "processes")  # fmt: skip


class Acceleration(Params):
    """How to train, as far as it changes the time and the memory, and (low rank and stabiliser) the mathematics."""

    acceleration: Literal["auto", "off"] = Field(
        default="auto", description="For the options that are not given. auto: measure a few steps, choose, say why."
    )
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        default=None, description="Mixed precision of forward passes."
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Rows a forward pass; the gradients of several add up to the whole batch.",
    )
    buckets: bool | None = Field(default=None, description="Batches of rows of like lengths: less padding.")
    tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**24,
        description="Padded tokens a forward pass: a batch is sorted by length and cut by this.",
    )
    loader: int | None = Field(default=None, ge=0, le=64, description="Threads that prepare batches ahead; 0: none.")
    optimizer: Literal["adamw", "fused", "8bit"] | None = Field(default=None, description="8bit needs bitsandbytes.")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] | None = Field(
        default=None, description="torch.compile and its mode; it pays in long jobs only."
    )
    on_device: bool | None = Field(default=None, description="Keep the training data on the device.")
    recompute: bool | None = Field(
        default=None, description="Gradient checkpointing: activations are computed again, to save memory."
    )
    cache_frozen: bool | None = Field(default=None, description="Compute the outputs of frozen lower layers once.")
    processes: int | None = Field(default=None, ge=1, le=64, description="Data-parallel processes, a device each.")
    low_rank: Literal["off", "full", "progressive", "selective", "dynamic"] = Field(
        default="off", description="Linear layers as products of thin matrices, from the start or on the way."
    )
    rank_ratio: float = Field(
        default=0.25, gt=0, le=1, description="Rank of those, as a share of a matrix's smaller side."
    )
    stabiliser: Literal["off", "conservative", "balanced", "aggressive"] = Field(
        default="off", description="DBC-DAC: low-rank approximation of gradients."
    )
    clip: float = Field(default=1.0, ge=0, description="Largest norm of the gradient; 0: any.")
    checkpoint_s: float = Field(
        default=60, ge=0, description="Seconds between checkpoints; the end of an epoch makes one too."
    )

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.micro_batch and self.tokens:
            raise ValueError("micro_batch and tokens both say how much a forward pass takes: give one of them")
        return self

    def settings(self) -> Acceleration:
        """These options alone, without the parameters of the job that inherits them."""
        return Acceleration.model_validate({name: getattr(self, name) for name in Acceleration.model_fields})

    def given(self) -> dict[str, Any]:
        """What the user has decided of what could be chosen."""
        return {name: value for name in CHOSEN if (value := getattr(self, name)) is not None}
