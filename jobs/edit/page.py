"""The page of a run in one file: plots, failures, and a gallery of the pairs, the worst first. It needs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from db.edit import EditPair
from jobs.edit import plots, text
from jobs.edit.gallery import FAILURES, SHOWN, SIDE
from jobs.training import html
from jobs.training.html import bullets, table
from jobs.training.plots import intervals

_TEMPLATE = Path(__file__).with_name("page.html")
STYLE = html.STYLE + Path(__file__).with_name("page.css").read_text()
LONG = 600  # characters of an instruction or of a scorer's words; pairs.jsonl has all of them
_PLOTS = 60  # categories with a plot of their own

Thumbnails = Mapping[tuple[str, str, str], str]


def render(
    data: Mapping[str, Any], scores: Mapping[str, Sequence[float]], shown: Sequence[EditPair],
    failed: Sequence[EditPair], thumbnails: Thumbnails,
) -> str:  # fmt: skip
    """The whole page. Nothing is loaded from elsewhere, and no text of the benchmark or of a model is markup."""
    numbers = {name: place for place, name in enumerate(data["categories"])}
    return html.page(
        data["title"],
        _TEMPLATE,
        STYLE + _filters(numbers.values()),
        facts=bullets(text.facts(data)),
        doubt=escape(data["doubt"]),
        table=table(text.COLUMNS, text.scores(data)),
        legend=escape(text.legend(data)),
        parts=_titled("Parts of the scores", table(*text.parts(data)) if text.parts(data)[1] else ""),
        plots=_plots(data, scores),
        failures=_failures(data, failed, thumbnails, numbers),
        filter=_filter(numbers),
        gallery="".join(_pair(row, thumbnails, numbers, data["scale"]) for row in shown),
        counted=escape(_counted(len(shown), data["overall"]["scored"])),
        times=table(text.TIMES, text.times(data)),
        models=bullets(text.models(data)),
        resumed=_titled("How it was resumed", bullets(data["resumed"]) if data["resumed"] else ""),
        judge=bullets(text.identity(data["judge"])),
        editor=bullets(text.identity(data["editor"])),
        config=escape(json.dumps(data["config"], indent=2, ensure_ascii=False)),
    )


def _titled(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _plots(data: Mapping[str, Any], scores: Mapping[str, Sequence[float]]) -> str:
    found = {name: each for name, each in data["categories"].items() if each["scored"]}
    drawn = []
    if found:
        means = {name: (each["mean"], each["mean_interval_95"]) for name, each in found.items()}
        drawn.append(_figure("Means", intervals(dict(list(means.items())[:_PLOTS]), "mean score")))
    low, high = data["scale"]
    for name in list(found)[:_PLOTS]:
        drawn.append(_figure(name, plots.distribution(name, scores[name], found[name], (low, high))))
    return f'<div class="plots">{"".join(drawn)}</div>' if drawn else "<p>No pair has a score.</p>"


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawn}</figure>"


def _failures(
    data: Mapping[str, Any], failed: Sequence[EditPair], thumbnails: Thumbnails, numbers: Mapping[str, int]
) -> str:
    if not failed:
        return ""
    total = data["overall"]["failed"]
    said = f"{len(failed)} of {total:,}" if len(failed) < total else f"{total:,}"
    more = f" Only the first {FAILURES} are shown; pairs.jsonl has all." if len(failed) < total else ""
    cards = "".join(_pair(row, thumbnails, numbers, data["scale"]) for row in failed)
    return (
        f'<h2 id="failures">Failed pairs ({said})</h2><p>They have no score, and are no part of the means.{more}</p>'
        f'{table(text.REASONS, text.reasons(data))}<div class="gallery">{cards}</div>'
    )


def _pair(row: EditPair, thumbnails: Thumbnails, numbers: Mapping[str, int], scale: Sequence[float]) -> str:
    """Original, edited, instruction, score with its parts, and what the scorer said."""
    pictures = "".join(picture(row, which, which, thumbnails) for which in ("original", "edited"))
    lines = [f'<p class="instruction">{cut(row.instruction) or "(no instruction)"}</p>']
    if row.state == "failed":
        lines.append(f'<p class="error">failed at {escape(row.failed_at or "score")}: {cut(row.error or "")}</p>')
    if row.parts:
        parts = "".join(f"<div><dt>{escape(name)}</dt><dd>{value:.2f}</dd></div>" for name, value in row.parts.items())
        lines.append(f"<dl>{parts}</dl>")
    if row.words:
        lines.append(f'<p class="said">{cut(row.words)}</p>')
    return (
        f'<article class="c{numbers[row.category]}"><h3>{_score(row, scale)}<span>{escape(row.category)}</span> '
        f"<small>{escape(row.pair_id)}</small></h3>"
        f'<div class="pictures">{pictures}</div>{"".join(lines)}</article>'
    )


def _score(row: EditPair, scale: Sequence[float]) -> str:
    if row.score is None:
        return '<b class="none">no score</b> '
    low, high = scale
    return f'<b>{row.score:.2f}</b> <meter min="{low:g}" max="{high:g}" value="{row.score:.4g}"></meter> '


def picture(row: EditPair, which: str, caption: str, thumbnails: Thumbnails) -> str:
    """The original or the edited image of a pair, or why there is none."""
    data = thumbnails.get((row.category, row.pair_id, which))
    if data is None:
        why = "no picture" if not getattr(row, which) else "gone from the store"
        return f'<figure><div class="gone">{why}</div><figcaption>{escape(caption)}</figcaption></figure>'
    alt = escape(f"{caption} of {row.pair_id}", quote=True)
    return (
        f'<figure><img alt="{alt}" loading="lazy" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _filter(numbers: Mapping[str, int]) -> str:
    """Radio buttons that CSS reads: they work by keyboard, and without a script."""
    if len(numbers) < 2:
        return ""
    choices = "".join(
        f'<label><input type="radio" name="category" id="only{place}"> {escape(name)}</label>'
        for name, place in numbers.items()
    )
    every = '<label><input type="radio" name="category" checked> all</label>'
    return f"<fieldset><legend>Category</legend>{every}{choices}</fieldset>"


def _filters(places: Sequence[int] | Any) -> str:
    return "\n".join(f"main:has(#only{each}:checked) article:not(.c{each}) {{ display: none; }}" for each in places)


def _counted(shown: int, scored: int) -> str:
    if shown == scored:
        return f"All {scored:,} pairs with a score, the worst first."
    return (
        f"{shown:,} of {scored:,} pairs with a score, the worst first: of each category those that scored least, at "
        f"most {SHOWN} in all. pairs.jsonl has all. Thumbnails have up to {SIDE} pixels."
    )


def cut(words: str) -> str:
    """A text that others wrote, as HTML and not too long."""
    return escape(words if len(words) <= LONG else f"{words[: LONG - 1]}…")
