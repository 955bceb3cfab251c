"""Our transport is that of every URL and of every connection of this app, and of no other app."""

import pytest
from celery import Celery
from kombu.transport import redis

from broker.app import app
from broker.transport import Connection, SentinelTransport, Transport

PASSWORD = "open-sesame"
URLS = {
    f"redis://:{PASSWORD}@h:1/0": Transport,
    f"rediss://:{PASSWORD}@h:1/0?ssl_cert_reqs=required": Transport,
    f"redis+socket://:{PASSWORD}@/run/redis.sock?virtual_host=1": Transport,
    f"sentinel://:{PASSWORD}@a:1/0;sentinel://b:2": SentinelTransport,
}


@pytest.mark.parametrize("url", URLS)
def test_every_scheme_is_checked_also_in_a_pool_and_in_a_copy(url: str) -> None:
    connection = Connection(url)
    pooled = connection.Pool(1).new()

    for each in (connection, connection.clone(), pooled):
        assert each.get_transport_cls() is URLS[url]


def test_the_app_and_its_pool_use_it_and_another_app_does_not() -> None:
    other = Celery("other", broker="redis://h")

    assert isinstance(app.connection_for_read(), Connection)
    with app.pool.acquire(block=False) as pooled:
        assert pooled.get_transport_cls() is Transport
    assert other.connection_for_read().get_transport_cls() is redis.Transport


@pytest.mark.parametrize("url", URLS)
def test_what_is_told_of_a_connection_has_no_password(url: str) -> None:
    connection = Connection(url)

    told = {name: value for name, value in connection.info().items() if name not in ("password", "alternates")}

    assert PASSWORD not in str(told)  # those two Celery hides itself
    assert PASSWORD not in connection.as_uri()
    assert PASSWORD not in repr(connection)
