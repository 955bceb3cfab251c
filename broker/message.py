"""What a message on a job queue must be: the nudge that `broker.publish` sends, and nothing else.

A worker reads from a message which job to run and what Flower shows of it. All else that is handed to Celery is made
here anew, so that whoever writes to Redis can name a job, and cannot make a worker decode, call, publish or import.
"""

import base64
import json
from itertools import count
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.limits import KIND_CHARACTERS

MAX_BYTES: Final = 16 << 10  # ours have up to 4 KiB: the parameters are in the row

# Every nudge has the same body: no arguments, and nothing to be called or published afterwards.
_NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
BODY: Final = base64.b64encode(json.dumps([[], {}, _NOTHING]).encode()).decode()
SHOWN_CHARACTERS: Final = 1024  # of the parameters, in Flower

_tags = count()


class Refused(ValueError):
    """A message that is no nudge; the text says why, and never quotes it."""


class _Part(BaseModel):
    """Strict: "5" is no number. What is unknown is left out, as a newer client may say more."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Headers(_Part):
    """Of Celery's message protocol 2: what varies has a type, what does not is a constant."""

    lang: Literal["py"]
    task: Annotated[str, Field(max_length=KIND_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]
    id: UUID
    shadow: None
    eta: None
    expires: None
    group: None
    group_index: None
    retries: Literal[0]
    timelimit: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, None]
    root_id: UUID
    parent_id: UUID | None
    argsrepr: Literal["()"]
    origin: Annotated[str, Field(max_length=300)]
    ignore_result: Literal[False]
    replaced_task_nesting: Literal[0]
    stamped_headers: None
    stamps: Annotated[dict[str, Any], Field(max_length=0)]
    kwargsrepr: Annotated[str, Field(max_length=SHOWN_CHARACTERS)]
    redelivered: bool = False  # added by kombu to what a stopped worker puts back


class _Where(_Part):
    exchange: Literal[""]
    routing_key: str


class _Properties(_Part):
    correlation_id: UUID
    reply_to: Literal[""]
    delivery_mode: Literal[2]
    priority: Annotated[int, Field(ge=0, le=9)]
    delivery_info: _Where
    body_encoding: Literal["base64"]
    delivery_tag: Annotated[str, Field(min_length=1, max_length=100)]


class _Message(_Part):
    body: str
    content_encoding: Annotated[Literal["utf-8"], Field(alias="content-encoding")]
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    headers: _Headers
    properties: _Properties


class _Id(_Part):
    id: UUID


class _Named(_Part):
    headers: _Id


def read(raw: bytes, queue: str) -> dict[str, Any]:
    """The message as kombu and Celery take it, made anew from what was found to be right. Raises Refused."""
    if len(raw) > MAX_BYTES:
        raise Refused(f"{len(raw):,} bytes: the limit is {MAX_BYTES:,}")
    try:
        message = _Message.model_validate_json(raw)
    except ValidationError as error:
        raise Refused(_line(error)) from None
    if message.body != BODY:
        raise Refused("body: is not the empty one of a nudge")
    made = message.model_dump(mode="json", by_alias=True)
    made["properties"] |= {
        "correlation_id": made["headers"]["id"],
        "delivery_tag": f"taken-{next(_tags)}-{made['headers']['id']}",  # two messages may claim to be one
        "delivery_info": {"exchange": "", "routing_key": queue},  # whence it came, not whence it says
    }
    return made


def named(raw: bytes) -> UUID | None:
    """The job that a message names, if it names any; for whoever looks through a queue without taking from it."""
    if len(raw) > MAX_BYTES:
        return None
    try:
        return _Named.model_validate_json(raw).headers.id
    except ValidationError:
        return None


def _line(error: ValidationError) -> str:
    """The first complaint; the text of an error may quote a character or two, and no more."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
