"""How Redis is reached: what a user's URL means to kombu and to redis-py."""

from pathlib import Path

import pytest
from kombu.utils.url import parse_ssl_cert_reqs

import broker.settings
import db.settings
from broker.settings import SettingsError, make_client, redis_url, transport_options
from broker.transport import Connection


@pytest.fixture(autouse=True)
def _read_again() -> None:
    broker.settings.settings.cache_clear()
    db.settings.settings.cache_clear()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Set the broker URL."""
    yield lambda url: monkeypatch.setenv("GRISTMILL_BROKER_URL", url)
    broker.settings.settings.cache_clear()
    db.settings.settings.cache_clear()


@pytest.mark.parametrize("url", ["redis://h:6379/1", "redis+socket:///run/redis.sock"])
def test_a_plain_url_goes_to_kombu_unchanged(given, url: str) -> None:  # type: ignore[no-untyped-def]
    given(url)

    assert redis_url() == url
    assert transport_options() == {}


@pytest.mark.parametrize(
    ("given_options", "required"),
    [("", "required"), ("?ssl_cert_reqs=CERT_REQUIRED", "required"), ("?ssl_cert_reqs=none", "none")],
)
def test_tls_proves_who_the_server_is_unless_told_otherwise(  # type: ignore[no-untyped-def]
    given, given_options: str, required: str
) -> None:
    given(f"rediss://me:p%40w@h:1/0{given_options}")

    assert redis_url() == f"rediss://me:p%40w@h:1/0?ssl_cert_reqs={required}"
    assert Connection(redis_url()).ssl == {"ssl_cert_reqs": parse_ssl_cert_reqs(required)}
    assert make_client().connection_pool.connection_kwargs["ssl_cert_reqs"] == required


def test_a_socket_may_want_a_password(given) -> None:  # type: ignore[no-untyped-def]
    given("redis+socket://me:p%40w@/run/redis.sock?virtual_host=2")

    asked = make_client().connection_pool.connection_kwargs

    assert (asked["path"], asked["username"], asked["password"], asked["db"]) == ("/run/redis.sock", "me", "p@w", 2)


def test_sentinels_become_the_urls_and_the_option_that_kombu_wants(given) -> None:  # type: ignore[no-untyped-def]
    given("sentinel://:p%40ss@a:26379,b/mymaster/2")

    assert redis_url() == "sentinel://:p%40ss@a:26379/2;sentinel://b:26379"
    assert transport_options() == {"master_name": "mymaster"}


def test_sentinels_in_the_spelling_of_kombu_are_taken_too(given) -> None:  # type: ignore[no-untyped-def]
    given("sentinel://a:1;sentinel://b:2/mymaster")

    assert redis_url() == "sentinel://a:1/0;sentinel://b:2"


def test_the_client_of_a_sentinel_url_asks_for_the_master(given) -> None:  # type: ignore[no-untyped-def]
    given("sentinel://:pw@a:1,b:2/mymaster/3")

    pool = make_client().connection_pool

    assert pool.service_name == "mymaster"
    assert pool.connection_kwargs["password"] == "pw"
    assert pool.connection_kwargs["db"] == 3


def test_unset_means_a_socket_under_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRISTMILL_BROKER_URL", raising=False)
    monkeypatch.setenv("GRISTMILL_HOME", "/srv/a b")

    assert redis_url() == "redis+socket:///srv/a%20b/redis/redis.sock?virtual_host=0"
    assert make_client().connection_pool.connection_kwargs["path"] == str(Path("/srv/a b/redis/redis.sock"))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("amqp://me:secret@h//", "not a Redis URL"),
        ("localhost:6379", "not a Redis URL"),
        ("redis://", "names no host"),
        ("redis://:secret@h:port/0", "number"),
        ("redis://:secret@h/first", "the database is not a number"),
        ("redis://:se/secret@h/0", "the port is not right"),
        ("rediss://:secret@h/0?ssl_cert_reqs=perhaps", "ssl_cert_reqs is not one of"),
        ("rediss://:secret@h/0?ssl_ca_certs=/no/ca.pem", "there is no file /no/ca.pem"),
        ("redis+socket://", "names no socket"),
        ("sentinel://:secret@a:1,b:2", "the master"),
        ("sentinel://a:x/mymaster", "is not host:port"),
    ],
)
def test_a_broker_url_that_cannot_work_gets_one_line_with_the_remedy(  # type: ignore[no-untyped-def]
    given, url: str, complaint: str
) -> None:
    given(url)

    with pytest.raises(SettingsError) as raised:
        redis_url()

    message = str(raised.value)
    assert complaint in message
    assert message.startswith("GRISTMILL_BROKER_URL=")
    assert "secret" not in message


def test_a_duration_that_is_no_number_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_LEASE_SECONDS", "soon")

    with pytest.raises(SettingsError, match="GRISTMILL_LEASE_SECONDS='soon'"):
        broker.settings.settings()
