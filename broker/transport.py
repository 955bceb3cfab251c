"""kombu's Redis transport with a check between a message's arrival and Celery.

kombu decodes what it takes from a queue inside the worker's event loop, and an error there ends the worker: one
message that is not JSON stopped every worker in turn. Here a message on a job queue is handed on only as the clean
nudge that `broker.message` makes of it; anything else is recorded (`broker.dropped`) and dropped. It never comes back,
since it was not put among the unacknowledged; a real job whose message was garbled is sent again by the relay.

The App plugs this in by its `amqp` class, so that it holds for every URL scheme and for no other Celery app.
"""

from queue import Empty
from threading import Event
from typing import Any

import structlog
from celery.app.amqp import AMQP as CeleryAMQP
from kombu.connection import Connection as KombuConnection
from kombu.connection import ConnectionPool, PooledConnection
from kombu.serialization import prepare_accept_content
from kombu.transport import redis
from kombu.utils.json import loads

from broker import dropped
from broker.app import app
from broker.job import Job
from broker.message import Refused, read
from db.settings import redact

log = structlog.get_logger()

_ACCEPTED = prepare_accept_content(["json"])  # type: ignore[no-untyped-call]
_REPLIES = ".reply.celery.pidbox"  # Celery's name for a queue of answers to remote control; all others are of jobs


_no_more = Event()


def take_no_more() -> None:
    """This worker is being stopped: what Redis still hands to it goes back."""
    _no_more.set()


class _QoS(redis.QoS):
    """kombu's, but for garbage among the unacknowledged: it ended every worker that started, and stayed."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """As kombu's; what cannot go back to its queue is removed."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except self.channel.connection_errors:
            raise
        except Exception as error:
            log.warning("unacknowledged_dropped", reason=type(error).__name__)
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]


class _Checked:
    """What both kinds of Redis channel do differently from kombu's."""

    QoS = _QoS

    _in_poll: Any
    _for_commands: Any = None

    def _create_client(self: Any, asynchronous: bool = False) -> Any:
        """kombu's, but one for all commands: making one, with a table of 170 callbacks, takes longer than a command."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]
        if self._for_commands is None or self._for_commands.connection_pool is not self.pool:
            self._for_commands = super()._create_client()  # type: ignore[misc]
        return self._for_commands

    def _brpop_read(self: Any, **options: Any) -> bool:
        """As kombu's, but for what is checked, and for what nobody here would start: that goes back."""
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            if _no_more.is_set() or not self.active_queues:  # it would be kept from others until this worker's jobs end
                self.client.rpush(*answer)
                raise Empty
            queue = answer[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            message = self._reply(answer[1]) if queue.endswith(_REPLIES) else _nudge(answer[1], queue)
            if message is None:
                raise Empty
            self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _basic_cancel(self: Any, consumer_tag: str) -> None:
        """As kombu's; and the answer to the last call, which nobody would read any more, is read."""
        super()._basic_cancel(consumer_tag)  # type: ignore[misc]
        if not self._in_poll or self.active_queues:
            return
        try:
            self._brpop_read()  # the call ends within brpop_timeout
        except Empty:
            pass
        except self.connection_errors as error:  # the relay misses the message, if there was one
            log.warning("last_call_broken", reason=type(error).__name__)

    def _receive_one(self: Any, client: Any) -> Any:
        """As kombu's, which lets what is nested too deeply end the worker."""
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except RecursionError:
            log.warning("broadcast_dropped", reason="nested too deeply")
            raise Empty from None

    def _deliver_fanout_message(self: Any, message: Any, exchange: str) -> bool:
        """A broadcast: remote control for workers, events for Flower."""
        return self._readable(message) and super()._deliver_fanout_message(message, exchange)  # type: ignore[misc]

    def _reply(self: Any, raw: bytes) -> Any:
        """What a worker answered to remote control, for the client that asked; None when it was dropped."""
        try:
            message = loads(raw)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RecursionError):
            message = None
        return message if self._readable(message) else None

    def _readable(self: Any, message: Any) -> bool:
        """Whether kombu can read it, which it will try without catching anything. Nothing but JSON is."""
        try:
            self.Message(message, channel=self, accept=_ACCEPTED).decode()
        except Exception as error:
            log.warning("control_message_dropped", reason=type(error).__name__)
            return False
        return True


class Channel(_Checked, redis.Channel):
    """Of one server."""


class SentinelChannel(_Checked, redis.SentinelChannel):
    """Of a server that sentinels name."""


class Transport(redis.Transport):
    """redis://, rediss:// and redis+socket://"""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """sentinel://"""

    Channel = SentinelChannel


_OURS = {redis.Transport: Transport, redis.SentinelTransport: SentinelTransport}


class Connection(KombuConnection):
    """kombu's, with our transports in the place of its own."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """A worker looks for a Redis that is away every 5 s, where kombu would come to wait for 30."""
        return super().ensure_connection(*args, **{"interval_max": 5, **options})  # type: ignore[no-untyped-call]

    def info(self) -> Any:
        """What `celery inspect stats` and Flower show: the host of a socket is its URL, with the password."""
        told = super().info()  # type: ignore[no-untyped-call]
        return {**told, "hostname": redact(told["hostname"] or "")}

    def get_transport_cls(self) -> Any:
        """The transport of the URL's scheme."""
        theirs = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _OURS.get(theirs, theirs)

    def Pool(self, limit: int | None = None, **options: Any) -> "_Pool":
        """A pool of such connections; kombu's makes its own, whatever it is a pool of."""
        return _Pool(self, limit, **options)  # type: ignore[no-untyped-call]


class _Pooled(PooledConnection, Connection):
    """One of a pool."""


class _Pool(ConnectionPool):
    """kombu's, of our connections."""

    def new(self) -> _Pooled:
        """One more."""
        return _Pooled(self, **dict(self.connection._info(resolve=False)))  # type: ignore[no-untyped-call]


class AMQP(CeleryAMQP):
    """Celery's, with our connections."""

    Connection = Connection


def _nudge(raw: bytes, queue: str) -> Any:
    """The message to hand on; None when it was dropped."""
    try:
        message = read(raw, queue)
    except Refused as error:
        dropped.drop(queue, str(error), raw)
        return None
    kind = message["headers"]["task"]
    if not isinstance(app.tasks.get(kind), Job):  # nor is any of Celery's own tasks to be called by a message
        dropped.undeclared(queue, kind, message["headers"]["id"], raw)
        return None
    return message
