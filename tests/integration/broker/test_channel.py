"""A channel's client for commands, on a real Redis."""

from typing import Any

import pytest

from broker.app import app

pytestmark = pytest.mark.usefixtures("clean_db")


def test_all_commands_of_a_channel_go_through_one_client_until_its_connections_are_new() -> None:
    def client(channel: Any) -> Any:
        with channel.conn_or_acquire() as made:
            assert made.ping()
            return made

    with app.connection_for_write() as connection:
        channel = connection.channel()
        first = client(channel)

        assert client(channel) is first
        assert channel.client is not first  # the one that waits for messages holds its own connection

        channel._disconnect_pools()

        assert client(channel) is not first
