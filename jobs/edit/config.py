"""A run's configuration: a YAML or JSON file on the worker's machine, checked whole before anything is recorded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from broker.errors import JobError, summary
from broker.limits import shown
from broker.params import parse
from broker.queues import NAMING, is_queue
from db.edit import EditPair, Stage
from db.storable import NotStorable, encode

FIELDS = ("instruction", "description", "category", "id")
DEFAULT = "default"
_MOST_BYTES = 1 << 20

# What the run is carried on with, and no score depends on: changed, it is the same run.
_HOW = {"benchmark", "batch", "save_images", "stages", "queues"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _template(text: str) -> str:
    try:
        found = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{error}: write {{{{ and }}}} for braces that stay") from None
    for _, name, spec, conversion in found:
        if name is not None and (name not in FIELDS or spec or conversion):
            known = ", ".join(f"{{{each}}}" for each in FIELDS)
            raise ValueError(f"{{{shown(name, str)}}} is no field: use {known}, and {{{{ }}}} for braces that stay")
    return text


def _queue(name: str) -> str:
    if not is_queue(name):
        raise ValueError(f"of no known class: {NAMING}")
    return name


def _spec(value: Any) -> Any:
    return {"class": value} if isinstance(value, str) else value


Template = Annotated[str, AfterValidator(_template)]
Queue = Annotated[str, AfterValidator(_queue)]


class Spec(_Part):
    """An adapter; `editor: procedural` is short for one without parameters."""

    class_: str = Field(alias="class", min_length=1, max_length=300)
    parameters: dict[str, Any] = {}


class Prompt(_Part):
    """Templates over FIELDS; what a category leaves out is the default's."""

    system: Template | None = None
    user: Template | None = None


class Prompts(_Part):
    """By category; "default" is for the others. A scorer that is given none has words of its own."""

    edit: dict[str, Prompt] = {}
    score: dict[str, Prompt] = {}


class Sizes(_Part):
    """Images of one call of a model; and pairs of one job, whose originals are one artifact."""

    edit: int = Field(default=8, ge=1, le=1024)
    score: int = Field(default=16, ge=1, le=1024)
    job: int | None = Field(default=None, ge=1, le=1024)  # the larger of the two if not given

    @property
    def pairs(self) -> int:
        return self.job or max(self.edit, self.score)


class Queues(_Part):
    """An editor of its own gets a queue of its own, so that workers keep it loaded."""

    edit: Queue = "gpu.edit"
    score: Queue = "gpu.score"


class Config(_Part):
    """See docs/recipes/edit.md."""

    name: str = Field(min_length=1, max_length=100)
    benchmark: str = Field(min_length=1)  # relative to the configuration's folder; absolute once it is read
    categories: list[str] | None = Field(default=None, min_length=1)  # all if not given
    editor: Annotated[Spec, BeforeValidator(_spec)]
    scorer: Annotated[Spec, BeforeValidator(_spec)]
    prompts: Prompts = Prompts()
    batch: Sizes = Sizes()
    save_images: bool = True
    stages: Literal["two", "one"] = "two"
    seed: int = Field(default=0, ge=0, lt=2**31)
    queues: Queues = Queues()

    def key(self, benchmark_sha256: str) -> str:
        """The same for runs whose scores should be the same."""
        what = {name: value for name, value in self.row().items() if name not in _HOW}
        return hashlib.sha256(json.dumps([what, benchmark_sha256], sort_keys=True).encode()).hexdigest()

    def row(self) -> dict[str, Any]:
        """As JSON, from which it can be made again."""
        return self.model_dump(mode="json", by_alias=True)

    def filled(self, stage: Stage, pair: EditPair) -> tuple[str, str]:
        """The system's and the user's prompt of a pair."""
        prompts = self.prompts.edit if stage == "edit" else self.prompts.score
        own, common = prompts.get(pair.category, Prompt()), prompts.get(DEFAULT, Prompt())
        values = {"instruction": pair.instruction, "description": pair.description}
        values |= {"category": pair.category, "id": pair.pair_id}
        user = "{instruction}" if stage == "edit" else ""
        chosen = ((own.system, common.system, ""), (own.user, common.user, user))
        system, user = (next(each for each in texts if each is not None) for texts in chosen)
        return system.format(**values), user.format(**values)

    def seed_of(self, pair: EditPair) -> int:
        """A pair's own seed: the same whatever batch it is in."""
        name = json.dumps([self.seed, pair.category, pair.pair_id])
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) >> 1


def read(path: str) -> Config:
    """The configuration in a file. Raises JobError or InvalidParams, one line that names the value."""
    place = Path(path).expanduser()
    try:
        with place.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise JobError(f"{place} cannot be read on this worker ({error.strerror}): correct the path") from None
    if len(content) > _MOST_BYTES:
        raise JobError(f"{place} is larger than {_MOST_BYTES:,} bytes: it is no configuration: give the run's YAML")
    try:
        values = yaml.load(content, _Loader)  # a SafeLoader; JSON is YAML
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise JobError(f"{place} is neither YAML nor JSON: {summary(error)}") from None
    if not isinstance(values, dict):
        raise JobError(f"{place} holds {type(values).__name__}: write name, benchmark, editor and scorer, one a line")
    found = parse(place.name, Config, (), {str(name): value for name, value in values.items()})
    assert isinstance(found, Config)  # for the type checker
    try:
        encode(found.row())
    except NotStorable as error:
        raise JobError(f"{place} has a value that is {error}: correct it") from None
    return found.model_copy(update={"benchmark": str(place.absolute().parent / found.benchmark)})


class _Loader(yaml.SafeLoader):
    """Without aliases, of which a few lines can make a structure that fills any memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken: write the value again")
        return super().compose_node(parent, index)
