"""Messages that no client of ours sends: a seeded generator of what may lie on a queue, class by class."""

import base64
import copy
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

from broker.publish import envelope
from db.outbox import Nudge

Make = Callable[[Random], bytes]

NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
BUILTINS = ["accumulate", "backend_cleanup", "chain", "chord", "chord_unlock", "chunks", "group", "map", "starmap"]
ODD: list[Any] = [
    None, True, -1, 0, 2**70, 1e308, "", "x", "\0", "\ud800", "ü" * 300, "x" * 5_000, [], [None], [[[]]], {},
    {"": None}, {"__type__": "datetime", "__value__": 5}, {"__type__": {}}, ["tests.poison"], "../../etc/passwd",
]  # fmt: skip


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def honest(job_id: UUID | None = None, kind: str = "tests.nothing") -> dict[str, Any]:
    """A message as our clients send it; by default of a job that does not exist."""
    made: dict[str, Any] = json.loads(envelope(Nudge(job_id or uuid4(), kind, "cpu", 3, {"x": 1})))
    return made


def text(message: Any) -> bytes:
    return json.dumps(message).encode()


def with_body(body: bytes | str, **changes: Any) -> bytes:
    """An honest message around another body."""
    encoded = base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode()
    return text({**honest(), "body": encoded, **changes})


def embedding(random: Random, path: Path) -> bytes:
    """A body that asks Celery to call, to publish or to count something afterwards."""
    signature = {
        "task": "tests.touch", "args": [str(path)], "kwargs": {}, "options": {"queue": "cpu"}, "subtask_type": None,
        "immutable": True,
    }  # fmt: skip
    part = random.choice(["callbacks", "errbacks", "chain", "chord"])
    embed = {**NO_EMBED, part: signature if part == "chord" else [signature]}
    return with_body(json.dumps([[], {}, embed]))


def replaced(random: Random, part: str) -> bytes:
    """An honest message with one of its fields missing or of an odd type or value."""
    message = honest()
    place = message if part == "message" else message[part]
    name = random.choice(sorted(place))
    if random.random() < 0.3:
        del place[name]
    else:
        place[name] = random.choice([each for each in ODD if each != place[name]])
    return text(message)


def set_header(random: Random, *names: str) -> bytes:
    message = honest()
    name = random.choice(names)
    message["headers"][name] = random.choice([each for each in ODD if each != message["headers"].get(name)])
    return text(message)


def mutated(random: Random) -> bytes:
    """An honest message with some of its bytes changed, lost, doubled or moved."""
    raw = bytearray(text(honest()))
    for _ in range(random.randint(1, 8)):
        at, length = random.randrange(len(raw)), random.randint(1, 12)
        match random.randrange(4):
            case 0:
                raw[at] ^= 1 << random.randrange(8)
            case 1:
                del raw[at : at + length]
            case 2:
                raw[at:at] = raw[at : at + length]
            case 3:
                raw[at:at] = random.randbytes(length)
    return bytes(raw)


def rewired(random: Random) -> bytes:
    """An honest message with a value somewhere in its tree replaced by another part of it, or by something odd."""
    message = honest()
    places = [(place, name) for place in (message, message["headers"], message["properties"]) for name in place]
    for _ in range(random.randint(1, 4)):
        place, name = random.choice(places)
        other, its_name = random.choice(places)
        place[name] = copy.deepcopy(random.choice([other.get(its_name), random.choice(ODD)]))
    return text(message)


def classes(traces: Path, huge_bytes: int = 20_000_000) -> dict[str, Make]:
    """Every class of message by its name. Whatever runs code of theirs leaves a file in `traces`."""
    evil = pickle.dumps(Evil(traces / "unpickled"))
    yaml = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{traces}/yaml']]"
    bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    encodings = ["utf-16", "utf-32", "utf-8-sig"]
    no_kinds = ["no.such", "x" * 10_000, "os.system", "\0"]

    def builtin(random: Random) -> bytes:
        return text(honest(kind="celery." + random.choice(BUILTINS)))

    def old_protocol(random: Random) -> bytes:
        body = {"task": "tests.nothing", "id": str(uuid4()), "args": [], "kwargs": {}, "retries": 0, "eta": None}
        return with_body(json.dumps(body), headers=random.choice([{}, None]))

    def control(random: Random) -> bytes:
        command = {"method": random.choice(["shutdown", "pool_restart", "revoke"]), "arguments": {"task_id": "*"}}
        body = json.dumps(command)
        return random.choice([text(command), with_body(body), with_body(body, headers={})])

    return {
        "empty": lambda random: b"",
        "random bytes": lambda random: random.randbytes(random.randint(1, 2_000)),
        "invalid UTF-8": lambda random: text(honest()).replace(b"tests.", b"\xff\xfe\xc3"),
        "another encoding": lambda random: json.dumps(honest()).encode(random.choice(encodings)),
        "truncated": lambda random: (raw := text(honest()))[: random.randrange(1, len(raw))],
        "JSON of a wrong type": lambda random: text(random.choice(ODD)),
        "not quite JSON": lambda random: random.choice([b"NaN", b"{'a': 1}", b"1e999", b"9" * 5_000, b"[1,]", b"{}{}"]),
        "deep nesting": lambda random: random.choice([b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900]),
        "deep headers": lambda random: text(honest()).replace(b'"py"', b"[" * 5_000 + b"]" * 5_000),
        "huge": lambda random: with_body("x" * random.randint(huge_bytes // 2, huge_bytes)),
        "long": lambda random: set_header(random, "kwargsrepr") + b" " * 100_000,
        "a field of the message": lambda random: replaced(random, "message"),
        "a header": lambda random: replaced(random, "headers"),
        "a property": lambda random: replaced(random, "properties"),
        "no headers at all": lambda random: text({**honest(), "headers": random.choice(ODD)}),
        "no properties at all": lambda random: text({**honest(), "properties": random.choice(ODD)}),
        "pickle": lambda random: with_body(evil, **{"content-type": "application/x-python-serialize"}),
        "pickle as JSON": lambda random: with_body(evil),
        "pickle as the message": lambda random: evil,
        "yaml": lambda random: with_body(yaml, **{"content-type": "application/x-yaml"}),
        "compressed": lambda random: with_body(
            bomb, headers={**honest()["headers"], "compression": random.choice(["application/x-gzip", "gzip", 5])}
        ),
        "an unknown encoding": lambda random: text({**honest(), "content-encoding": random.choice(["rot13", 5])}),
        "an unknown body encoding": lambda random: text(
            {**honest(), "properties": {**honest()["properties"], "body_encoding": random.choice(["rot13", 5, None])}}
        ),
        "an unknown task": lambda random: text(honest(kind=random.choice(no_kinds))),
        "a task of Celery's": builtin,
        "no UUID": lambda random: set_header(random, "id"),
        "no such job": lambda random: text(honest()),
        "control": control,
        "times": lambda random: set_header(random, "eta", "expires", "timelimit"),
        "embedded": lambda random: embedding(random, traces / "embedded"),
        "arguments": lambda random: with_body(json.dumps([[1], {"x": 2}, NO_EMBED])),
        "kin": lambda random: set_header(random, "root_id", "parent_id", "group", "group_index"),
        "stamps": lambda random: set_header(random, "stamps", "stamped_headers"),
        "flags": lambda random: set_header(random, "ignore_result", "replaced_task_nesting", "shadow", "retries"),
        "protocol 1": old_protocol,
        "mutated": mutated,
        "rewired": rewired,
    }  # fmt: skip


def messages(random: Random, count: int, traces: Path) -> list[tuple[str, bytes]]:
    """So many messages in a random order, every class among them, each with the name of its class; two are huge."""
    every = classes(traces)
    names = [*every, "huge"]
    usual = [name for name in every if name != "huge"]
    names += [random.choice(usual) for _ in range(count - len(names))]
    random.shuffle(names)
    return [(name, every[name](random)) for name in names[:count]]
