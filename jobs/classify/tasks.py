"""The classifier's jobs and their parameters; what they do is in the modules that the bodies import."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from sqlalchemy.orm import Session

from broker.context import Context
from broker.job import Params, job
from jobs.classify.serve import check_known
from jobs.text.source import Place, Source
from jobs.text.submitted import readable
from jobs.training.options import Acceleration

StudentKind = Literal["ngrams", "bilstm", "ngrams+bilstm", "transformer", "layers"]
StudentSize = Literal["small", "medium"]
TEACHER = "In the registry, NAME or NAME@VERSION; teacher-<data> if not given."
STUDENT_NAME = "In the registry of models; student-<data> if not given."
UNLABELLED = "File of texts without labels, one a line; the folder's unlabelled.txt, if it has one, if not given."
ENSEMBLE = "With an n-gram model beside the teacher; if not given, where the teacher is no better than that on dev."
NUMBERS = "Numbers in place of the size's: width, hidden, buckets, dropout, … as the kind has them."
BY_KIND = "By the kind of student if not given."


class TrainTeacher(Source, Acceleration):
    """Fine-tune a transformer to classify texts; it comes into use if it is no worse on dev than the one in use."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="In the registry of models; teacher-<data> if not given.",
    )
    encoder: Place = Field(
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


class Label(Source):
    """Ask a teacher about all texts, those without labels too, and keep its logits for the students."""

    teacher: str | None = Field(default=None, min_length=1, description=TEACHER)
    unlabelled: Place | None = Field(default=None, min_length=1, description=UNLABELLED)
    ensemble: bool | None = Field(default=None, description=ENSEMBLE)
    copies: int = Field(default=0, ge=0, le=50, description="Augmented copies of each text, by masks and parts.")
    seed: int = Field(default=42, ge=0, lt=2**31)


class TrainStudent(Source, Acceleration):
    """Train a small classifier from a teacher's logits, or without a teacher."""

    name: str | None = Field(default=None, min_length=1, max_length=100, description=STUDENT_NAME)
    logits: str | None = Field(default=None, description="What classify.label gave; without, there is no teacher.")
    unlabelled: Place | None = Field(default=None, min_length=1, description=UNLABELLED)
    kind: StudentKind = "ngrams"
    size: StudentSize = "medium"
    numbers: dict[str, int | float] = Field(default_factory=dict, description=NUMBERS)
    labels: Literal["soft", "hard"] = Field(default="soft", description="The teacher's probabilities, or its choice.")
    temperature: float = Field(default=2.0, gt=0, le=100)
    alpha: float = Field(default=0.7, ge=0, le=1, description="Share of the soft labels; the rest is the known ones'.")
    rows: int | None = Field(
        default=None, ge=1, description="Texts an epoch without a teacher, the same ones again: equal compute."
    )
    max_length: int = Field(default=128, ge=4, le=512, description="Tokens of a text that are read.")
    epochs: int | None = Field(default=None, ge=1, le=1000, description=BY_KIND)
    patience: int | None = Field(default=None, ge=1, description="Epochs without a better validation; none: all.")
    batch: int | None = Field(default=None, ge=1, le=65536, description=BY_KIND)
    rate: float | None = Field(default=None, gt=0, lt=1, description="Learning rate. " + BY_KIND)
    decay: float = Field(default=0.0, ge=0, lt=1, description="Weight decay.")
    seed: int = Field(default=42, ge=0, lt=2**31)
    start: str | None = Field(default=None, description="Artifact of the teacher that a student of layers begins as.")
    candidate: bool = Field(default=False, description="Without a version in the registry: classify.distill chooses.")


class Distill(Source, Acceleration):
    """Students from one teacher, each beside its twin without a teacher; the best on dev comes into the registry."""

    teacher: str | None = Field(default=None, min_length=1, description=TEACHER)
    name: str | None = Field(default=None, min_length=1, max_length=100, description=STUDENT_NAME)
    unlabelled: Place | None = Field(default=None, min_length=1, description=UNLABELLED)
    ensemble: bool | None = Field(default=None, description=ENSEMBLE)
    copies: int = Field(default=0, ge=0, le=50, description="Augmented copies of each text.")
    kinds: list[StudentKind] = Field(default=["ngrams", "bilstm"], min_length=1, max_length=5)
    sizes: list[StudentSize] = Field(default=["medium"], min_length=1, max_length=2)
    labels: list[Literal["soft", "hard"]] = Field(default=["soft"], min_length=1, max_length=2)
    temperatures: list[Annotated[float, Field(gt=0, le=100)]] = Field(default=[2.0], min_length=1, max_length=10)
    numbers: dict[str, int | float] = Field(default_factory=dict, description=NUMBERS + " One kind and size only.")
    alpha: float = Field(default=0.7, ge=0, le=1, description="Share of the soft labels; the rest is the known ones'.")
    max_length: int = Field(default=128, ge=4, le=512, description="Tokens of a text that are read.")
    epochs: int | None = Field(default=None, ge=1, le=1000, description=BY_KIND)
    batch: int | None = Field(default=None, ge=1, le=65536, description=BY_KIND)
    rate: float | None = Field(default=None, gt=0, lt=1, description="Learning rate. " + BY_KIND)
    decay: float = Field(default=0.0, ge=0, lt=1, description="Weight decay.")
    seed: int = Field(default=42, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.numbers and (len(self.kinds) > 1 or len(self.sizes) > 1):
            raise ValueError("numbers belong to one kind and one size: give one of each")
        return self


# Ten attempts: each goes on from the last one's checkpoint.
@job("classify.train_teacher", params=TrainTeacher, queue="gpu", max_attempts=10, time_limit=24 * 3600, check=readable)
def train_teacher(ctx: Context, params: TrainTeacher) -> dict[str, Any]:
    from jobs.classify.train import train_teacher

    return train_teacher(ctx, params)


@job("classify.label", params=Label, queue="gpu", max_attempts=10, time_limit=24 * 3600, check=readable)
def label(ctx: Context, params: Label) -> dict[str, Any]:
    from jobs.classify.label import label

    return label(ctx, params)


# Ten attempts: each goes on from the last one's checkpoint.
@job("classify.train_student", params=TrainStudent, queue="gpu", max_attempts=10, time_limit=24 * 3600, check=readable)
def train_student(ctx: Context, params: TrainStudent) -> dict[str, Any]:
    from jobs.classify.student import train_student

    return train_student(ctx, params)


@job("classify.distill", params=Distill, queue="cpu", check=readable)
def distill(ctx: Context, params: Distill) -> dict[str, Any]:
    from jobs.classify.distill import distill

    return distill(ctx, params)


# Every reader cuts a text far before this (64 characters for each token that the model reads), and says so.
TEXT_CHARACTERS = 100_000
ANSWERS = 10_000  # labels in one result, of all texts together: it fits a row


def _cut(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty: leave it out")
    return text[:TEXT_CHARACTERS]


Text = Annotated[str, AfterValidator(_cut)]


class Predict(Params):
    """Say which class a text is of, with its probability, by the version of a model that is in use."""

    model: str = Field(min_length=1, max_length=120, description="In the registry, NAME or NAME@VERSION.")
    text: Text | None = Field(default=None, description="One text: the result is one answer.")
    texts: list[Text] | None = Field(default=None, min_length=1, description="Several: the result is a list.")
    top_k: int = Field(default=1, ge=1, le=1000, description="The most probable classes that are named.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give text or texts, one of the two")
        if len(self.asked) * self.top_k > ANSWERS:
            raise ValueError(
                f"{len(self.asked):,} texts with top_k={self.top_k}: ask for at most {ANSWERS:,} labels a job"
            )
        return self

    @property
    def asked(self) -> list[str]:
        """The texts, be it one or several."""
        return [self.text] if self.text is not None else self.texts or []


def known_model(params: Predict, session: Session) -> None:
    """Refuses a model that is not in the registry or no classifier."""
    check_known(params.model, session)


# Somebody waits for an answer: with few texts it is a matter of milliseconds.
@job(
    "classify.predict",
    params=Predict,
    queue="cpu.predict",
    batch=64,
    batch_by=("model",),
    priority="interactive",
    time_limit=600,
    check=known_model,
)
def predict(ctx: Context, many: list[Predict]) -> list[Any]:
    from jobs.classify.predict import predict

    return predict(ctx, many)


class Compare(Source):
    """Put the classifiers of a data set side by side on this CPU: how right, how fast, how large, and which to take."""

    data: Place = Field(default="", description="As for training; if not given, the data that the models learned from.")
    models: list[str] = Field(
        default=[],
        max_length=50,
        description="Of the registry, NAME or NAME@VERSION; if not given, all that learned from the data, each in the "
        "version in use or else the newest.",
    )
    on: Literal["dev", "test"] = Field(default="dev", description="The split on which they are measured.")
    timing_s: float = Field(default=60, gt=0, le=3600, description="Seconds for timing all models together, about.")
    memory: bool = Field(default=True, description="Start a process for each model to see what it takes in memory.")
    seed: int = Field(default=42, ge=0, lt=2**31, description="Of the baseline that stands beside them.")


def known_models(params: Compare, session: Session) -> None:
    """Refuses what is not in the registry or no classifier, and data that is not there."""
    readable(params, session)
    for model in params.models:
        check_known(model, session)


@job("classify.compare", params=Compare, queue="cpu", max_attempts=3, time_limit=4 * 3600, check=known_models)
def compare(ctx: Context, params: Compare) -> dict[str, Any]:
    from jobs.classify.compare import compare

    return compare(ctx, params)
