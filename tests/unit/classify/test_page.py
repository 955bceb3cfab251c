"""The page of a comparison: one file, no name is markup, and differences that matter are marked."""

from html.parser import HTMLParser

import pytest

from jobs.classify.page import Comparison
from tests.unit.classify.test_verdict import entry

HOSTILE = "<script>alert(1)</script> $title &amp; 财经"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    entries = [
        entry("teacher@1", 0.9, 20, recalls=(0.9, None), pareto=True, role="teacher", flops=850_000_000),
        entry(HOSTILE, 0.8, 1, recalls=(0.85, 0.5), ece=None, disk_mb=None, flops=2240),
    ]
    return Comparison("2 classifiers", entries, (HOSTILE, "b"), (f"take {HOSTILE}",), {"old@1": HOSTILE}, {"on": "dev"})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_no_name_is_markup(comparison: Comparison) -> None:
    page, tags = comparison.html(b"picture"), Tags()
    tags.feed(page)

    names = [name for name, _ in tags.found]
    assert "script" not in names
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; $title &amp;amp; 财经") >= 5
    assert [attributes["src"][:22] for name, attributes in tags.found if name == "img" and attributes["src"]] == [
        "data:image/png;base64,"
    ]
    assert not [attributes for _, attributes in tags.found if "href" in attributes]
    assert names.count("table") == 3


def test_differences_of_two_points_or_more_are_marked_and_the_front_is_bold(comparison: Comparison) -> None:
    page = comparison.html(b"picture")

    assert '<td class="worse">-5.0</td>' in page
    assert '<tr class="front"><td>teacher@1 *</td>' in page


def test_what_is_not_known_is_said_and_small_numbers_are_readable(comparison: Comparison) -> None:
    text = comparison.markdown()

    assert " 0.00224 |" in text
    assert " 850 |" in text
    assert "not known" in text
    assert "## Left out" in text
