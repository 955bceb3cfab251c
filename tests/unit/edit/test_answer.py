"""A scorer's answer is read strictly: a number within the scale, or nothing."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.edit.adapters.answer import Unparsable, parse

TEN = (0.0, 10.0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 7),
        (" **7.5** ", 7.5),
        ("7/10", 7),
        ("The edit is good.\n8", 8),
        ("Score: 7/10", 7),
        ("**Final score:** 9", 9),
        ("The score is 7.", 7),
        ("I would give it a rating of 6 out of 10", 6),
        ("Adherence score: 8\nOverall score: 7", 7),
        ("Score (0-10): 7", 7),
        ("Ｓｃｏｒｅ： ７．５", 7.5),
        ("评分：7分", 7),
        ('{"score": 7.5}', 7.5),
        ('Here you are:\n```json\n{"score": 0, "reasoning": "nothing changed"}\n```', 0),
        ('{"Score": "7/10"}', 7),
        ('{"overall": 5, "score": 5.0}', 5),
        ('{"score": 7, "reasoning": "it was cut o', 7),
        ("{'score': 7, 'reasoning': 'no JSON'}", 7),
        ('<think>Score: 3? No.</think>{"score": 8}', 8),
    ],
)
def test_a_number_within_the_scale_is_found_in_json_and_in_plain_text(text: str, score: float) -> None:
    assert parse(text, TEN).score == score


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("The sky is blue now, as asked.", "no score"),
        ("There are 3 cats in it.", "no score"),
        ("7 8", "no score"),
        ("Score: 7-8", "no score"),
        ("Score: 70%", "no score"),
        ("Score: 7,5", "no score"),
        ("Score: NaN", "no score"),
        ("Score: ten", "no score"),
        ("Adherence score: 8", "no score"),
        ("Score: 7\nScore: 8", "ambiguous: 7 and 8"),
        ("Score: 7\n\n3", "ambiguous: 3 and 7"),
        ("Score: 11", "not within 0 to 10"),
        ("-1", "not within 0 to 10"),
        ("3/5", "out of 5"),
        ('{"score": 11}', "not within"),
        ('{"score": NaN}', "no number"),
        ('{"score": Infinity}', "no number"),
        ('{"score": null}', "no number"),
        ('{"score": true}', "no number"),
        ('{"score": [7, 8]}', "no number"),
        ('{"score": "high"}', "no number"),
        ('{"score": 3, "score": 9}', "twice"),
        ('{"score": 3, "overall": 9}', "ambiguous"),
        ('{"score": 3} or {"score": 9}', "ambiguous"),
        ('{"adherence": {"score": 3}}', "no score"),
        ('{"adherence": {"score": 3}, "score": 7', "ambiguous"),
        ('{"score": ' + "9" * 5000 + "}", "not within"),
        ("<think>The score is 7", "empty"),
    ],
)
def test_anything_else_is_unparsable_and_never_a_zero(text: str, why: str) -> None:
    with pytest.raises(Unparsable, match=why):
        parse(text, TEN)


def test_sub_scores_and_words_are_kept() -> None:
    answer = parse('{"score": 6, "adherence": 7, "parts": {"quality": 5.5, "far": 99}, "reasoning": " too dark "}', TEN)

    assert answer.parts == {"adherence": 7.0, "quality": 5.5}
    assert answer.words == "too dark"


def test_a_number_at_the_end_of_an_answer_that_was_cut_off_is_not_believed() -> None:
    assert parse("Score: 7", TEN).score == 7
    assert parse("Score: 7, because", TEN, cut=True).score == 7
    for text in ("Score: 1", '{"score": 7', "7."):
        with pytest.raises(Unparsable):
            parse(text, TEN, cut=True)


def test_the_scale_decides() -> None:
    assert parse("4/5", (1.0, 5.0)).score == 4
    with pytest.raises(Unparsable, match="not within 1 to 5"):
        parse("0", (1.0, 5.0))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 10).map(lambda score: round(score, 3)))
def test_whatever_the_score_every_form_gives_it_back(score: float) -> None:
    number = f"{score:.3f}"
    for text in (number, f"Score: {number}", f"{number}/10", json.dumps({"score": score, "reasoning": "3 of 4"})):
        assert parse(text, TEN).score == pytest.approx(score)


PIECES = st.sampled_from(["score", "rating", ":", " ", "\n", *'{}"/.-', "10", "7", "**", "评分", "为", "分"])


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100).map(lambda data: data.decode("utf-8", "replace")),
        st.lists(PIECES, max_size=30).map("".join),
    )
)
@example("{" * 5000)
@example('{"score": ' + "[" * 5000)
def test_no_text_gives_anything_but_a_score_within_the_scale_or_a_reason(text: str) -> None:
    try:
        answer = parse(text, TEN)
    except Unparsable:
        return
    assert math.isfinite(answer.score)
    assert 0 <= answer.score <= 10
