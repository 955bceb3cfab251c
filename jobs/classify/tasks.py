"""The classifier's jobs and their parameters; what they do is in the modules that the bodies import."""

from typing import Any

from pydantic import Field

from broker.context import Context
from broker.job import job
from jobs.text.source import Source
from jobs.training.options import Acceleration


class TrainTeacher(Source, Acceleration):
    """Fine-tune a transformer to classify texts; it comes into use if it is no worse on dev than the one in use."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="In the registry of models; teacher-<data> if not given.",
    )
    encoder: str = Field(
        default="auto",
        min_length=1,
        description='"minilm", "scratch" (a small one that begins with nothing), "auto" (MiniLM where it knows the '
        "texts' words), a folder in Hugging Face's form, or a name on its hub.",
    )
    freeze: int = Field(default=0, ge=0, le=100, description="Layers from below that do not learn, nor the embeddings.")
    layer_decay: float = Field(default=1.0, gt=0, le=1, description="Learning rate as a share of the layer's above.")
    max_length: int | None = Field(default=None, ge=4, le=8192, description="Tokens of a text that are read: 128.")
    prefix: str = Field(default="", max_length=200, description='Before each text, such as "query: " for E5.')
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Before the classification head.")
    epochs: int | None = Field(default=None, ge=1, le=1000, description="4, or 10 from scratch.")
    patience: int = Field(default=2, ge=1, description="Epochs without a better validation before stopping.")
    batch: int = Field(default=32, ge=1, le=65536)
    rate: float | None = Field(
        default=None, gt=0, lt=1, description="Learning rate of the head and the highest layer: 1e-3 from scratch, "
        "1e-4 for encoders narrower than 512, else 3e-5."
    )  # fmt: skip
    decay: float = Field(default=0.01, ge=0, lt=1, description="Weight decay.")
    seed: int = Field(default=42, ge=0, lt=2**31)


# Ten attempts: each goes on from the last one's checkpoint.
@job("classify.train_teacher", params=TrainTeacher, queue="gpu", max_attempts=10, time_limit=24 * 3600)
def train_teacher(ctx: Context, params: TrainTeacher) -> dict[str, Any]:
    from jobs.classify.train import train_teacher

    return train_teacher(ctx, params)
