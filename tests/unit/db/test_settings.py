"""Where things are kept: the URLs a user may give, and what is said about the ones that cannot work."""

import time
from pathlib import Path

import pytest

from db.settings import Settings, SettingsError, read, redact, sqlalchemy_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_postgres_schemes_become_the_psycopg_driver(scheme: str) -> None:
    assert sqlalchemy_url(f"{scheme}://me:secret@db:5432/mill?sslmode=require") == (
        "postgresql+psycopg://me:secret@db:5432/mill?sslmode=require"
    )


def test_a_postgres_socket_folder_counts_as_a_host() -> None:
    assert sqlalchemy_url("postgres:///mill?host=/var/run/postgresql").endswith("/mill?host=/var/run/postgresql")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://me:secret@db/mill", "not a PostgreSQL URL"),
        ("db:5432/mill", "not a PostgreSQL URL"),
        ("postgresql:///mill", "names no host"),
        ("postgresql://me:secret@db", "names no database"),
        ("postgresql://me:secret@db:fivefour/mill", "number"),
    ],
)
def test_a_database_url_that_cannot_work_gets_one_line_with_the_remedy(url: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as raised:
        sqlalchemy_url(url)

    message = str(raised.value)
    assert complaint in message
    assert message.startswith("GRISTMILL_DATABASE_URL=")
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pass@db/mill", "postgresql://me:***@db/mill"),
        ("redis://:pa/ss@w;ord@h:1/0", "redis://:***@h:1/0"),
        ("sentinel://:pass@a:1,b:2/main", "sentinel://:***@a:1,b:2/main"),
        ("sentinel://:pass@a:1;sentinel://:pass@b:2/main", "sentinel://:***@b:2/main"),
        ("postgresql://db/mill?user=me&password=pass", "postgresql://db/mill?user=me&password=***"),
        ("redis://h:6379/0", "redis://h:6379/0"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_stopped_embedded_postgres_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Postgres is not running under .*: start it with `gristmill up`"):
        Settings(home=tmp_path).postgres_url()


def test_artifacts_are_a_folder_under_home_by_default(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).artifacts() == f"file://{tmp_path}/artifacts"


def test_a_plain_folder_and_a_bucket_are_taken_for_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert Settings(artifacts_url="models").artifacts() == "file:///models"
    assert Settings(artifacts_url="s3://bucket/models").artifacts() == "s3://bucket/models"


@pytest.mark.parametrize("url", ["s4://bucket/models", "s3://"])
def test_an_artifacts_url_that_cannot_work_names_the_variable(url: str) -> None:
    with pytest.raises(SettingsError, match=r"GRISTMILL_ARTIFACTS_URL=s\d://.*use a folder"):
        Settings(artifacts_url=url).artifacts()


def test_settings_come_from_the_environment_and_empty_means_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRISTMILL_HOME", "here")
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "")

    settings = read(Settings)

    assert settings.home == tmp_path / "here"
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach postgresql://me:pass@db/mill: a@b", "cannot reach postgresql://me:***@db/mill: a@b"),
        ('{"url": "redis://:pass@h", "to": "a@b"}', '{"url": "redis://:***@h", "to": "a@b"}'),
        ("host=db user=me password='p a s s' dbname=mill", "host=db user=me password=*** dbname=mill"),
        ("see http://127.0.0.1:5555/x", "see http://127.0.0.1:5555/x"),
        ("max_tokens=512 loss=3", "max_tokens=512 loss=3"),
    ],
)
def test_a_password_is_not_shown_within_a_text_either(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("form", ["open/sesame@42", "open%2Fsesame%4042"])
def test_the_secrets_of_the_settings_are_found_wherever_they_are(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", f"postgresql://me:{form}@db/mill")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")

    assert redact("FATAL: open/sesame@42 or open%2Fsesame%4042 or wJalrXUtnFEMI") == "FATAL: *** or *** or ***"


def test_a_password_that_is_no_secret_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "postgresql://postgres:postgres@db/mill")
    monkeypatch.setenv("GRISTMILL_BROKER_URL", "redis://:mill@h/0")

    assert redact("gristmill asks postgres") == "gristmill asks postgres"


def test_a_long_text_takes_no_time() -> None:
    began = time.monotonic()

    for text in ("a" * 100_000 + "://", "://" + "a" * 100_000, "x://a:" * 20_000, "password" * 12_000, "= " * 50_000):
        redact(text)

    assert time.monotonic() - began < 5
