"""What errors say within a sentence."""

import pytest

from broker.errors import summary


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n  no such file.\nhint: look elsewhere"), "no such file"),
        (KeyError("ranks"), "'ranks'"),
        (TimeoutError(), "TimeoutError"),
        (ValueError(" \n"), "ValueError"),
        (OSError("x" * 10_000), "x" * 200),
    ],
)
def test_an_error_is_said_in_one_line(error: Exception, said: str) -> None:
    assert summary(error) == said
