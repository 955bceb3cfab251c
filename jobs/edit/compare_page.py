"""The comparison of two runs for people: Markdown, and a page in one file with the pairs that changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from db.edit import EditPair
from jobs.edit import page
from jobs.edit.paired import SHOWN
from jobs.edit.text import between, number
from jobs.training import html
from jobs.training.html import bullets
from jobs.training.plots import intervals
from jobs.training.summary import table

COLUMNS = ("category", "pairs", "first", "second", "difference", "95 % interval", "better", "worse", "only one scored")
_CHANGED = ("category", "pair", "first", "second", "difference", "instruction")
_TEMPLATE = Path(__file__).with_name("compare.html")
_LISTED = 20  # of the pairs that changed most, in Markdown
_PLOTTED = 60  # categories


def markdown(data: Mapping[str, Any]) -> str:
    """The whole comparison, without pictures."""
    changed = [
        [
            each["category"], each["pair_id"], number(each["first"]), number(each["second"]),
            signed(each["second"] - each["first"]), each["instruction"][: page.LONG],
        ]
        for each in data["changed"][:_LISTED]
    ]  # fmt: skip
    parts = [
        f"# {' '.join(data['title'].split())}",
        "\n".join(f"- {line}" for line in facts(data)),
        *([f"**{each}**" for each in warnings(data)]),
        "## Differences",
        table(COLUMNS, rows(data)),
        legend(data),
        "## The pairs that changed most",
        table(_CHANGED, changed) or "No score changed.",
    ]
    return "\n\n".join(parts) + "\n"


def render(
    data: Mapping[str, Any], most: Sequence[tuple[EditPair, EditPair]], before: page.Thumbnails, after: page.Thumbnails
) -> str:
    """The page; nothing is loaded from elsewhere, and no text of others is markup."""
    shown = {
        name: (each["difference"], each["difference_interval_95"])
        for name, each in (*list(data["categories"].items())[:_PLOTTED], ("overall", data["overall"]))
        if each["pairs"]
    }
    low_high = (data["first"], data["second"])
    return html.page(
        data["title"],
        _TEMPLATE,
        page.STYLE,
        facts=bullets(facts(data)),
        warnings="".join(f'<p class="note error">{escape(each)}</p>' for each in warnings(data)),
        table=html.table(COLUMNS, rows(data), [each["beyond_chance"] for each in data["categories"].values()]),
        legend=escape(legend(data)),
        plot=intervals(shown, f"difference: {low_high[1]['name']} - {low_high[0]['name']}", zero=True),
        changed="".join(_pair(one, two, before, after) for one, two in most) or "<p>No score changed.</p>",
        counted=f"The {len(most)} largest changes" if len(most) == SHOWN else f"{len(most)} scores changed",
    )


def facts(data: Mapping[str, Any]) -> list[str]:
    """Who is compared with whom, and what came out."""
    overall = data["overall"]
    return [
        *(
            f"{which}: {run['name']}, run {run['run'][:8]}, edited by {run['editor']}, judged by {run['judge']}"
            for which, run in (("first", data["first"]), ("second", data["second"]))
        ),
        f"over {overall['pairs']:,} pairs scored in both: {signed(overall['difference'])} "
        f"({between(overall['difference_interval_95'])}), "
        f"{'more than chance' if overall['beyond_chance'] else 'which may be chance'}",
    ]


def warnings(data: Mapping[str, Any]) -> list[str]:
    """What keeps the two from being compared."""
    said = []
    if data["judges_differ"]:
        said.append(
            "The judges differ, so these scores cannot be compared: score both runs with one judge. "
            f"{'; '.join(data['judges_differ'])}"
        )
    if data["benchmarks_differ"]:
        said.append(
            "The benchmark files differ: pairs are taken for the same by category, id and instruction; whether their "
            "images are, nobody has looked."
        )
    return said


def legend(data: Mapping[str, Any]) -> str:
    """What the columns are."""
    return (
        "difference: second - first, the mean over the pairs that are scored in both; the others count for nothing. "
        f"95 % interval: paired, {data['interval_is']}, seed {data['seed']}. Bold on the page: the interval leaves out "
        "0; of twenty categories that do not differ, one does by chance."
    )


def rows(data: Mapping[str, Any]) -> list[list[str]]:
    """A line for each category, the last for all."""
    named = (*data["categories"].items(), ("overall", data["overall"]))
    return [
        [
            " ".join(name.split()), f"{each['pairs']:,}", number(each["mean_first"]), number(each["mean_second"]),
            signed(each["difference"]), between(each["difference_interval_95"]), f"{each['better']:,}",
            f"{each['worse']:,}", f"{each['only_first'] + each['only_second']:,}",
        ]
        for name, each in named
    ]  # fmt: skip


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _pair(one: EditPair, two: EditPair, before: page.Thumbnails, after: page.Thumbnails) -> str:
    """Original and both edits side by side, with what each was given and told."""
    difference = (two.score or 0.0) - (one.score or 0.0)
    pictures = (
        page.picture(one, "original", "original", before),
        page.picture(one, "edited", f"first: {number(one.score)}", before),
        page.picture(two, "edited", f"second: {number(two.score)}", after),
    )
    words = "".join(
        f'<p class="said">{which}: {page.cut(row.words)}</p>'
        for which, row in (("first", one), ("second", two))
        if row.words
    )
    return (
        f'<article><h3><b class="{"better" if difference > 0 else "worse"}">{signed(difference)}</b> '
        f"<span>{escape(one.category)}</span> <small>{escape(one.pair_id)}</small></h3>"
        f'<div class="pictures three">{"".join(pictures)}</div>'
        f'<p class="instruction">{page.cut(one.instruction) or "(no instruction)"}</p>{words}</article>'
    )
