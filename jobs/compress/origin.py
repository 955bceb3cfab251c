"""What is to be compressed: a version in the registry, its network, and the data on which to see what it loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db.store import ArtifactError
from jobs.compress.tasks import Compression
from jobs.text import champion, data
from jobs.text.artifact import Loaded, load_model
from jobs.text.data import Dataset
from jobs.text.runtime import FORM
from jobs.training import manifest, registered
from jobs.training.publish import in_use, publish, result


@dataclass(frozen=True)
class Origin:
    name: str
    version: int
    digest: str
    loaded: Loaded
    data: Dataset

    def json(self) -> dict[str, Any]:
        """What the manifest of what is made of it says: by it a worker finds the uncompressed one again."""
        return {"name": self.name, "version": self.version, "artifact": self.digest}


def find(ctx: Context, params: Compression) -> Origin:
    """The model that the parameters name, with its data. Raises JobError: what is wrong, in one line."""
    with ctx.session() as session:
        row = registered.find(session, params.model)
    try:
        folder = ctx.store.fetch(row.artifact_digest)
        facts = manifest.read(folder)
        if facts.get("form") == FORM:
            made_of = next((facts[key]["name"] for key in facts if key.endswith("_from")), "the network")
            raise JobError(f"{row.name}@{row.version} is an ONNX model already: give what it was made from ({made_of})")
        loaded = load_model(folder)
        dataset = data.asked(params, [facts])
    except (ArtifactError, OSError, ValueError) as error:
        raise JobError(str(error)) from None
    if loaded.classes != dataset.classes:
        theirs, ours = ", ".join(dataset.classes[:5]), ", ".join(loaded.classes[:5])
        raise JobError(
            f"{dataset.name} has other classes ({theirs}) than {row.name} ({ours}): give the data it learned"
        )
    return Origin(row.name, row.version, row.artifact_digest, loaded, dataset)


def register(
    ctx: Context, folder: Any, name: str, origin: Origin, relation: str, metrics: dict[str, Any],
    *, tolerance: float, objection: str | None = None, report: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The folder as the next version of `name`, and what the job says of it.

    It comes into use unless `objection` says why not, or the version in use is better on this dev by more than the
    tolerance, in points. `relation`: such as "quantized_from", of the lineage.
    """
    over = in_use(ctx, name)
    if over and not objection:
        objection, _ = champion.objection(ctx, over, origin.data, metrics["dev"], tolerance)
    lineage = {relation: {"name": origin.name, "version": origin.version}, "artifact": origin.digest, "report": report}
    model = publish(ctx, folder, name, "classify", metrics, lineage=lineage, over=over, objection=objection)
    return result(model) | {"name": name, relation: origin.json()}
