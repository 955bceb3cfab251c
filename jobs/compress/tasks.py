"""The jobs that make a trained classifier smaller and faster; what they do is in the modules that the bodies import."""

from typing import Any, Literal

from pydantic import Field

from broker.context import Context
from broker.job import job
from jobs.text.source import Source


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
    data: str = Field(default="", description="As for training; the model's own data if not given.")
    tolerance: float = Field(default=0.5, ge=0, le=100, description="Points of accuracy on dev that may be lost.")


class Quantize(Compression):
    """Make the INT8 form that is fastest on this machine, of those that are as accurate as the network."""

    agreement: float = Field(
        default=0.96, ge=0, le=1, description="Share of dev that must get the same class as from the network."
    )
    prefer: Literal["latency", "throughput", "size"] = Field(
        default="latency", description="What to choose by: one text at a time, batches of 32, or the file's size."
    )
    sample: int = Field(default=4000, ge=1, description="Texts of dev at most, by which candidates are judged.")
    timing_s: float = Field(default=30, gt=0, le=3600, description="Seconds at most for timing at each batch size.")


class Export(Compression):
    """Write the network as an ONNX graph in float32, fused where that is known, checked against torch."""

    difference: float = Field(default=1e-3, gt=0, description="Of a logit, at most, between torch and the graph.")


@job("compress.quantize", params=Quantize, queue="cpu", max_attempts=3, time_limit=4 * 3600)
def quantize(ctx: Context, params: Quantize) -> dict[str, Any]:
    from jobs.compress.quantize import quantize

    return quantize(ctx, params)


@job("compress.export", params=Export, queue="cpu", max_attempts=3, time_limit=3600)
def export(ctx: Context, params: Export) -> dict[str, Any]:
    from jobs.compress.export import export

    return export(ctx, params)
