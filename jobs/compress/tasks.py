"""The jobs that make a trained classifier smaller and faster; what they do is in the modules that the bodies import."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from broker.context import Context
from broker.job import job
from jobs.text.source import Place, Source
from jobs.text.submitted import readable
from jobs.training.options import Acceleration


class Compression(Source):
    """A classifier in the registry, and the data on which to see what it loses."""

    model: str = Field(
        min_length=1, max_length=120, description="In the registry: NAME for the version in use, or NAME@VERSION."
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Of the result in the registry; the model's with a suffix.",
    )
    data: Place = Field(default="", description="As for training; the model's own data if not given.")
    tolerance: float = Field(default=0.5, ge=0, le=100, description="Points of accuracy on dev that may be lost.")


class Quantize(Compression):
    """Make the INT8 form that is fastest on this machine, of those that are as accurate as the network."""

    agreement: float = Field(
        default=0.96, ge=0, le=1, description="Share of dev that must get the same class as from the network."
    )
    prefer: Literal["latency", "throughput", "size"] = Field(
        default="latency", description="What to choose by: one text at a time, batches of 32, or the file's size."
    )
    prune_vocabulary: bool = Field(
        default=False, description="Leave out the embeddings of pieces that neither train nor unlabelled texts have."
    )
    sample: int = Field(default=4000, ge=1, description="Texts of dev at most, by which candidates are judged.")
    timing_s: float = Field(default=30, gt=0, le=3600, description="Seconds at most for timing at each batch size.")


class Export(Compression):
    """Write the network as an ONNX graph in float32, fused where that is known, checked against torch."""

    difference: float = Field(default=1e-3, gt=0, description="Of a logit, at most, between torch and the graph.")


class Recovered(Compression, Acceleration):
    """What both cuts of a network have in common: the training after them."""

    recovery_s: float = Field(
        default=120, ge=0, le=24 * 3600, description="Seconds of training after the cut, from what the network said "
        "before it; 0: none."
    )  # fmt: skip
    rate: float = Field(default=5e-5, gt=0, lt=1, description="Learning rate of that training.")
    seed: int = Field(default=42, ge=0, lt=2**31)


class Prune(Recovered):
    """Cut what matters least out of a network, and let what is left recover; only structure that goes saves time."""

    method: Literal["structured", "unstructured"] = Field(
        default="structured", description="Layers, heads and neurons; or single weights, which saves no time."
    )
    layers: float = Field(default=0, ge=0, lt=1, description="Share of the layers that go.")
    heads: float = Field(default=0, ge=0, lt=1, description="Share of each layer's attention heads that go.")
    ffn: float = Field(default=0, ge=0, lt=1, description="Share of each layer's feed-forward neurons that go.")
    share: float = Field(default=0.3, gt=0, lt=1, description="Unstructured: of the weights that become zero.")
    pattern: str = Field(
        default="query|q_lin|q_proj",
        min_length=1,
        description="Unstructured: regular expression of the layers' names; . for all.",
    )
    gradual: bool = Field(default=False, description="Unstructured: more zeros each epoch of the recovery.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        structured = self.layers or self.heads or self.ffn
        if self.method == "unstructured" and structured:
            raise ValueError("layers, heads and ffn are of method=structured: leave them out, or the method")
        if self.gradual and (self.method == "structured" or not self.recovery_s):
            raise ValueError("gradual needs method=unstructured and a recovery_s above 0")
        return self


class LowRank(Recovered):
    """Write a network's linear layers as products of thin matrices, and let it recover."""

    rate: float = Field(
        default=3e-4, gt=0, lt=1, description="Learning rate of the recovery: a thin network is far off."
    )
    ratio: float = Field(default=0.25, gt=0, le=1, description="Rank, as a share of a matrix's smaller side.")


@job("compress.quantize", params=Quantize, queue="cpu", max_attempts=3, time_limit=4 * 3600, check=readable)
def quantize(ctx: Context, params: Quantize) -> dict[str, Any]:
    from jobs.compress.quantize import quantize

    return quantize(ctx, params)


@job("compress.export", params=Export, queue="cpu", max_attempts=3, time_limit=3600, check=readable)
def export(ctx: Context, params: Export) -> dict[str, Any]:
    from jobs.compress.export import export

    return export(ctx, params)


# Three attempts: the recovery is short enough to be done again from its beginning.
@job("compress.prune", params=Prune, queue="cpu", max_attempts=3, time_limit=24 * 3600, check=readable)
def prune(ctx: Context, params: Prune) -> dict[str, Any]:
    from jobs.compress.prune import prune

    return prune(ctx, params)


@job("compress.lowrank", params=LowRank, queue="cpu", max_attempts=3, time_limit=24 * 3600, check=readable)
def lowrank(ctx: Context, params: LowRank) -> dict[str, Any]:
    from jobs.compress.lowrank import lowrank

    return lowrank(ctx, params)
