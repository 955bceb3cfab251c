"""The report of an evaluation: report.json for programs; report.md and index.html, one file, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from jobs.recommend.contest import Contest, Entry, Pair
from jobs.recommend.evaluate import METRIC, POPULAR, SAME, UNFILTERED, UNIFORM, Difference
from jobs.training import html
from jobs.training.html import bullets
from jobs.training.interval import METHOD
from jobs.training.plots import intervals
from jobs.training.summary import table

PAGE = "index.html"
LEGEND = (
    "coverage@10: share of the items in any list of ten; novelty@10: mean self-information of what is listed, in bits; "
    "popularity@10: how many users met a listed item, on average (sources: jobs/recommend/evaluate.py)."
)
LESS = (
    f"Row less column in {METRIC}, paired bootstrap over users; in brackets where no difference is seen at 95 %. Of "
    "twenty comparisons of equals one is expected to look like a difference."
)
_TEMPLATE = Path(__file__).with_name("contest.html")
_FULL = (
    "model", METRIC, "95 % interval", "hit@10", "ndcg@5", "hit@5", "mrr", "validation ndcg@10", "coverage@10",
    "novelty@10", "popularity@10", "fit s",
)  # fmt: skip
_OTHERS = {
    UNFILTERED: "unfiltered: seen items stay in the ranking",
    UNIFORM: "u100: sampled, among 100 uniform negatives",
    POPULAR: "p100: sampled, among 100 negatives drawn by popularity",
}
_SHOWN = (METRIC, "hit@10", "mrr")
_PROTOCOLS = ("model", *(f"{name} {metric}" for name in _OTHERS for metric in _SHOWN))
_SEEDS = ("model", "seed", "validation ndcg@10", "test ndcg@10", "test hit@10", "fit s")


@dataclass(frozen=True)
class Page:
    """A contest and what it was held on."""

    title: str
    contest: Contest
    facts: Mapping[str, Any]
    pairs: Sequence[Pair] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "verdict": self.verdict(),
            "models": {entry.name: figures(entry) for entry in self.contest.entries},
            "pairs": [
                {"first": each.first, "second": each.second, "verdict": each.difference.verdict}
                | {name: round(value, 5) for name, value in vars(each.difference).items()}
                for each in self.pairs
            ],
            "left_out": dict(self.contest.left_out),
            "intervals_are": METHOD,
        }

    def write(self, folder: Path) -> None:
        (folder / "report.json").write_text(json.dumps(self.json(), ensure_ascii=False, allow_nan=False))
        (folder / "report.md").write_text(self.markdown())
        (folder / PAGE).write_text(self.html())

    def verdict(self) -> list[str]:
        """What validation chooses and how that did on test, its losses included."""
        chosen, best = self.contest.chosen, self.contest.entries[0]
        found = chosen.summary()
        low, high = chosen.interval or (found[METRIC], found[METRIC])
        said = [
            f"By validation ({METRIC} {chosen.validation:.4f}) {chosen.name} is the one to take. On the test items its "
            f"{METRIC} is {found[METRIC]:.4f} ({low:.4f}-{high:.4f}), its hit@10 {found['hit@10']:.4f}."
        ]
        words = {
            "better": "It ranks better than",
            SAME: "No difference is seen between it and",
            "worse": "It ranks worse than",
        }
        by_verdict: dict[str, list[str]] = {name: [] for name in words}
        for other in self.contest.entries:
            if other is not chosen:
                by_verdict[self._difference(chosen.name, other.name).verdict].append(other.name)
        said += [f"{words[name]} {', '.join(others)}." for name, others in by_verdict.items() if others]
        if best is not chosen:
            said.append(
                f"On test {best.name} has the highest {METRIC} ({best.summary()[METRIC]:.4f}): not chosen by it."
            )
        return said

    def markdown(self) -> str:
        parts = [
            f"# {self.title}",
            "\n".join(self._facts("- ")),
            "## What to take",
            "\n".join(f"- {sentence}" for sentence in self.verdict()),
            "## Full ranking, seen items filtered",
            table(_FULL, self._full()),
            f"Means over seeds; intervals: 95 %, bootstrap over users. {LEGEND}",
            "## Other protocols",
            "\n".join(f"- {what}" for what in _OTHERS.values()),
            table(_PROTOCOLS, self._others()),
            "## Who ranks better than whom",
            LESS,
            table(("model", *(entry.name for entry in self.contest.entries)), self._matrix()),
            "## Each seed",
            table(_SEEDS, self._seeds()),
        ]
        for title, lines in (("Blends", self._blends()), ("Left out", self._left_out())):
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)] if lines else []
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """A page in one file: nothing is loaded from elsewhere, and no name is markup."""
        shown = {entry.name: (entry.summary()[METRIC], entry.interval) for entry in self.contest.entries}
        marked = [entry is self.contest.chosen for entry in self.contest.entries]
        less = self._less()
        sections = {
            title: f"<h2>{title}</h2>{bullets(lines)}" if lines else ""
            for title, lines in (("Blends", self._blends()), ("Left out", self._left_out()))
        }
        return html.page(
            self.title,
            _TEMPLATE,
            facts=bullets(self._facts()),
            verdict=bullets(self.verdict()),
            plot=intervals(shown, f"{METRIC} on test", bars=True),
            full=html.table(_FULL, self._full(), marked),
            legend=escape(LEGEND),
            explained=escape(LESS),
            protocols=bullets(list(_OTHERS.values())),
            others=html.table(_PROTOCOLS, self._others(), marked),
            less=intervals(less, f"{METRIC} of {self.contest.chosen.name}, less the other's", zero=True)
            if less
            else "",
            pairs=html.table(("model", *shown), self._matrix(), marked, notable=0),
            seeds=html.table(_SEEDS, self._seeds()),
            blends=sections["Blends"],
            left_out=sections["Left out"],
        )

    def _less(self) -> dict[str, tuple[float, tuple[float, float] | None]]:
        """By how much the chosen one is better than each other."""
        chosen = self.contest.chosen
        found: dict[str, tuple[float, tuple[float, float] | None]] = {}
        for other in self.contest.entries:
            if other is not chosen:
                less = self._difference(chosen.name, other.name)
                found[other.name] = (less.mean, (less.low, less.high))
        return found

    def _facts(self, before: str = "") -> list[str]:
        return [f"{before}{name.replace('_', ' ')}: {value}" for name, value in self.facts.items() if value is not None]

    def _full(self) -> list[list[str]]:
        rows = []
        for entry in self.contest.entries:
            found, lists = entry.summary(), entry.lists()
            low, high = entry.interval or (found[METRIC], found[METRIC])
            rows.append([
                entry.name, f"{found[METRIC]:.4f}", f"{low:.4f}-{high:.4f}", f"{found['hit@10']:.4f}",
                f"{found['ndcg@5']:.4f}", f"{found['hit@5']:.4f}", f"{found['mrr']:.4f}", f"{entry.validation:.4f}",
                f"{lists['coverage@10']:.3f}", f"{lists['novelty@10']:.2f}", f"{lists['popularity@10']:.0f}",
                f"{entry.fit_s:.1f}",
            ])  # fmt: skip
        return rows

    def _others(self) -> list[list[str]]:
        rows = []
        for entry in self.contest.entries:
            found = [entry.summary(name) for name in _OTHERS]
            rows.append([entry.name, *(f"{each[metric]:.4f}" for each in found for metric in _SHOWN)])
        return rows

    def _matrix(self) -> list[list[str]]:
        def cell(row: str, column: str) -> str:
            if row == column:
                return ""
            less = self._difference(row, column)
            shown = f"{round(less.mean, 4) + 0.0:+.4f}"  # never -0.0000
            return f"({shown})" if less.verdict == SAME else shown

        names = [entry.name for entry in self.contest.entries]
        return [[row, *(cell(row, column) for column in names)] for row in names]

    def _difference(self, one: str, other: str) -> Difference:
        """One less other."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (one, other):
                return pair.difference
            if (pair.first, pair.second) == (other, one):
                return Difference(-pair.difference.mean, -pair.difference.high, -pair.difference.low)
        raise KeyError((one, other))

    def _seeds(self) -> list[list[str]]:
        return [
            [
                entry.name, "none" if run.seed is None else str(run.seed), f"{run.validation[METRIC]:.4f}",
                f"{run.test.summary()[METRIC]:.4f}", f"{run.test.summary()['hit@10']:.4f}", f"{run.fit_s:.1f}",
            ]
            for entry in self.contest.entries
            for run in entry.runs
        ]  # fmt: skip

    def _blends(self) -> list[str]:
        return [
            f"{entry.name}, seed {run.seed}: {run.remark}"
            for entry in self.contest.entries
            for run in entry.runs
            if run.remark
        ]

    def _left_out(self) -> list[str]:
        return [f"{name}: {why}" for name, why in self.contest.left_out.items()]


def figures(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: means over its seeds under each protocol, the interval of ndcg@10, and each seed."""
    rounded = {name: round(value, 4) for name, value in (entry.summary() | entry.lists()).items()}
    others = {name: {key: round(value, 4) for key, value in entry.summary(name).items()} for name in _OTHERS}
    seeds = [
        {
            "seed": run.seed,
            METRIC: round(run.test.summary()[METRIC], 4),
            "hit@10": round(run.test.summary()["hit@10"], 4),
            f"validation {METRIC}": round(run.validation[METRIC], 4),
            "train_s": round(run.fit_s, 2),
        }
        | ({"remark": run.remark} if run.remark else {})
        for run in entry.runs
    ]
    return rounded | {
        "interval": entry.interval and [round(value, 4) for value in entry.interval],
        f"validation {METRIC}": round(entry.validation, 4),
        "train_s": round(entry.fit_s, 2),
        **others,
        "seeds": seeds,
    }
