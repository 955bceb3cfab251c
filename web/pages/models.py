"""`/models` and `/models/{name}`: the registry: how good and how fast each is, what it came from, who made it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request, Response

from db import measured, registry
from db.engine import session
from db.measured import Version
from db.read import NotFound
from db.recommend import MODEL
from db.token import ADMIN
from jobs.training.registered import origins, scores
from web.pages.compared import groups
from web.pages.entry import Reader
from web.pages.frame import page, pages
from web.pages.values import number
from web.routes.models import Name

router = pages()

_VERSIONS = 100  # of a model, the newest: one that is trained each week has as many after two years
_COLUMNS = 10  # of a table of metrics


@dataclass(frozen=True, slots=True)
class Named:
    """A model: its version in use, else the newest, and how many there are."""

    version: Version
    count: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers by measurement and name."""

    columns: list[str]
    rows: list[tuple[str, list[float | None]]]


@router.get("/models")
def show_models(request: Request, who: Reader) -> Response:
    """All of them, and the classifiers of the same data side by side."""
    with session() as opened:
        versions, comparisons = measured.versions(opened), measured.comparisons(opened)
    return page(
        request, "models.html", models=_named(versions), groups=groups(versions, comparisons), scores=scores,
        origins=origins,
    )  # fmt: skip


@router.get("/models/{name}")
def show_model(
    request: Request, who: Reader, name: Name, version: Annotated[int | None, Query(ge=1, lt=2**31)] = None
) -> Response:
    """One model: its versions, and one of them, which is the one in use if none is asked for. Raises NotFound."""
    with session() as opened:
        versions = measured.versions(opened, name)
        if not versions:
            raise NotFound(f"there is no model {name!r}: /models lists what there is")
        shown = next((each for each in versions if each.version == version), None)
        if version is None:
            shown = _named(versions)[0].version
        elif shown is None:
            raise NotFound(f"there is no version {version} of model {name!r}: /models/{name} lists them")
        made_of_it = measured.made_of(opened, name, shown.version)
        before = registry.previous(opened, name) if shown.is_current else None
    may = who.may(ADMIN)
    goes_to = (before.version if before else None) if shown.is_current else shown.version
    return page(
        request, "model.html", name=name, versions=versions[:_VERSIONS], more=len(versions[_VERSIONS:]), shown=shown,
        metrics=metrics_table(shown.metrics), scores=scores, origins=origins, made_of_it=made_of_it,
        served=name == MODEL, may=may, goes_to=goes_to if may else None,
    )  # fmt: skip


def metrics_table(metrics: Mapping[str, Any]) -> Metrics:
    """The numbers of what the registry keeps, a row a measurement; lists, such as confusion matrices, are left out."""
    found = list(_measurements(metrics))
    columns = list(dict.fromkeys(name for _, values in found for name in values))[:_COLUMNS]
    return Metrics(columns, [(label, [values.get(name) for name in columns]) for label, values in found])


def _measurements(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, float]]]:
    numbers = {name: found for name, value in metrics.items() if (found := number(value)) is not None}
    if numbers:
        yield prefix or "overall", numbers
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _measurements(value, f"{prefix} {name}".strip().replace("_", " "))


def _named(versions: Sequence[Version]) -> list[Named]:
    of_name: dict[str, list[Version]] = {}
    for each in versions:
        of_name.setdefault(each.name, []).append(each)
    return [
        Named(next((each for each in found if each.is_current), found[0]), len(found)) for found in of_name.values()
    ]
