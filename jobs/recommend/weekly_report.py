"""What a weekly loop decided and why, with the weeks before: report.md, report.json, and a page with its picture."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.context import Context
from broker.settings import settings
from db import recommend_stat
from db.artifact import Model
from db.recommend import MODEL
from jobs.recommend.evaluate import METRIC
from jobs.training import fonts, html
from jobs.training.curves import BLUE, GREY, ORANGE
from jobs.training.html import bullets
from jobs.training.publish import keep_report
from jobs.training.summary import table

KIND, TITLE = "weekly refresh", "Recommendations: the weekly refresh"
_VERSIONS, _DAYS = 26, 60
_FAILED = 5  # users of AniList, named
_COLUMNS = ("who", METRIC, "hit@10", "mrr", "the new one is better by", "95 % interval")
_PAST = ("version", "made", METRIC, "on test", "taken into use")
_TEMPLATE = Path(__file__).with_name("weekly.html")
_LEGEND = (
    "Full ranking of each user's item before the last, items seen before it filtered. Interval: paired bootstrap over "
    "the users. A new model is kept out if all of its interval is below 0 against the version in use."
)


def collect(session: Session, said: str, promoted: bool, results: Mapping[str, Any]) -> dict[str, Any]:
    """All that report.json has; `results` are those of the loop's children."""
    past = session.scalars(
        select(Model).where(Model.name == MODEL).order_by(Model.version.desc()).limit(_VERSIONS)
    ).all()
    days = recommend_stat.reads_by_day(session, _DAYS)
    week = [(hits, misses) for _, hits, misses in days[-7:]]
    reads = sum(hits + misses for hits, misses in week)
    version = results["train"]["version"]
    used = {model.lineage.get("compared_with_version") for model in past} | ({version} if promoted else set())
    return {
        "title": TITLE,
        "decision": said,
        "promoted": promoted,
        "remark": results["train"].get("remark"),
        "version": version,
        "metrics": results["train"]["metrics"],
        "lists": results["lists"],
        "late_lists": results.get("late lists"),
        "import": results.get("import"),
        "anilist": results.get("anilist"),
        "hit_rate": round(sum(hits for hits, _ in week) / reads, 4) if reads else None,
        "hit_rate_floor": settings().hit_rate_floor,  # under which the metrics alert as well
        "versions": [_version(model, used) for model in reversed(past)],
        "days": [{"day": day.isoformat(), "hits": hits, "misses": misses} for day, hits, misses in days],
    }


def write(ctx: Context, data: Mapping[str, Any]) -> str:
    """Into the store; returns its digest."""
    with ctx.store.scratch() as folder:
        picture = folder / "weeks.png"
        draw(picture, data)
        (folder / "report.json").write_text(json.dumps(data, ensure_ascii=False, allow_nan=False))
        (folder / "report.md").write_text(markdown(data))
        (folder / "index.html").write_text(render(data, picture.read_bytes()))
        return keep_report(ctx, folder, KIND, TITLE)


def markdown(data: Mapping[str, Any]) -> str:
    parts = [
        f"# {TITLE}", f"**{data['decision']}**", "\n".join(f"- {line}" for line in facts(data)),
        "## On this week's validation", table(_COLUMNS, measured(data)), _LEGEND,
        "## The weeks before", table(_PAST, _past(data)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def render(data: Mapping[str, Any], picture: bytes) -> str:
    return html.page(
        TITLE, _TEMPLATE, decision=escape(data["decision"]), facts=bullets(facts(data)),
        table=html.table(_COLUMNS, measured(data)), legend=escape(_LEGEND),
        picture=base64.b64encode(picture).decode(), versions=html.table(_PAST, _past(data)),
    )  # fmt: skip


def facts(data: Mapping[str, Any]) -> list[str]:
    lists, late, taken, users = data["lists"], data["late_lists"], data["import"], data["anilist"]
    said = [data["remark"]] if data["remark"] else []
    if taken:
        said.append(f"imported from {taken['data']}: {taken['changed_users']:,} users' histories changed")
    if users:
        said.append(f"imported from AniList: {users['changed_users']:,} users' histories changed")
        said += [f"not imported: {each['reason']}" for each in users["failed"][:_FAILED]]
    said.append(
        f"lists of {lists['users']:,} users: {lists['rebuilt']:,} rebuilt, {lists['incremental']:,} from a cached "
        f"state, {lists['cached']:,} fresh before, {lists['popular']:,} of whom the model knows nothing; "
        f"{lists['seconds']:.1f} s"
    )
    if late:
        said.append(f"{late['computed']:,} of them once more, whose histories changed meanwhile")
    if data["hit_rate"] is not None:
        floor = data["hit_rate_floor"]
        low = f", under {floor:.0%}" if data["hit_rate"] < floor else ""
        said.append(f"{data['hit_rate']:.1%} of the reads of the last seven days with any were answered at once{low}")
    return said


def measured(data: Mapping[str, Any]) -> list[list[str]]:
    """The new model and those beside it, on the same users."""
    named = {"in_use": "the version in use", "transitions": "transition counts"}
    new = data["metrics"]["validation"]
    found = [[f"version {data['version']}, the new one", *_scores(new), "", ""]]
    for name, who in named.items():
        if (other := data["metrics"].get(name)) is not None:
            between = f"{other['difference_low']:+.4f} to {other['difference_high']:+.4f}"
            found.append([who, *_scores(other), f"{other['difference']:+.4f}", between])
    return found


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """A PNG of 1200 x 450 pixels: what each version scored, and how often the cache had an answer."""
    with fonts.drawing(()):
        figure = Figure(figsize=(12, 4.5), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
        scores, rate = figure.subplots(1, 2)
        _versions(scores, data["versions"])
        _hit_rate(rate, data["days"], data["hit_rate_floor"])
        figure.savefig(path)


def _versions(axes: Axes, versions: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title(f"Validation {METRIC}", fontsize=11, loc="left")
    found = [each for each in versions if each["validation"] is not None]
    axes.plot([e["version"] for e in found], [e["validation"] for e in found], color=BLUE, linewidth=1, zorder=1)
    for taken, label, colour in ((True, "taken into use", BLUE), (False, "not", ORANGE)):
        shown = [each for each in found if each["taken"] is taken]
        axes.scatter([e["version"] for e in shown], [e["validation"] for e in shown], color=colour, label=label)
    axes.set_xlabel("version")
    axes.set_ylim(0, 1.15 * max((each["validation"] for each in found), default=1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _hit_rate(axes: Axes, days: Sequence[Mapping[str, Any]], floor: float) -> None:
    axes.set_title("Hit rate of the cache, by day", fontsize=11, loc="left")
    axes.axhline(floor, color=GREY, linestyle="--", linewidth=1)
    rates = [each["hits"] / (each["hits"] + each["misses"]) for each in days]
    axes.plot(range(len(days)), rates, color=BLUE, marker=".")
    step = max(1, len(days) // 6)
    axes.set_xticks(range(0, len(days), step), [each["day"][5:] for each in days[::step]])
    axes.set_ylim(0, 1.02)
    axes.spines[["top", "right"]].set_visible(False)


def _version(model: Model, used: set[int | None]) -> dict[str, Any]:
    """`used`: versions of which others say that they were in use; older ones do not say so themselves."""
    scores = model.metrics
    return {
        "version": model.version,
        "made": model.created_at.date().isoformat(),
        "validation": scores.get("validation", {}).get(METRIC),
        "test": scores.get("test", {}).get(METRIC),
        "taken": model.is_current or "in_use_since" in model.lineage or model.version in used,
        "note": model.lineage.get("note"),
    }


def _past(data: Mapping[str, Any]) -> list[list[str]]:
    return [
        [str(each["version"]), each["made"], _number(each["validation"]), _number(each["test"]),
         "yes" if each["taken"] else each["note"] or "no, only stored"]
        for each in reversed(data["versions"])
    ]  # fmt: skip


def _scores(values: Mapping[str, float]) -> list[str]:
    return [_number(values.get(name)) for name in (METRIC, "hit@10", "mrr")]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
