"""Machines on a network of the test's own: network namespaces that veth pairs join to a bridge in a third one.

Needs root and iproute2. What runs on a machine reaches the servers over real TCP, and its link can be cut.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SERVER = "10.77.0.1"
_PREFIX = "gristmill"


class Unavailable(Exception):
    """No network namespaces here; the message says why."""


class Network:
    """A namespace with the servers' address on a bridge; `join` adds machines."""

    def __init__(self) -> None:
        self.servers = f"{_PREFIX}{os.getpid()}servers"
        self._machines: list[str] = []

    def start(self) -> None:
        """Raises Unavailable where that is not possible."""
        if os.geteuid() != 0:
            raise Unavailable("network namespaces need root")
        if shutil.which("ip") is None:
            raise Unavailable("network namespaces need the program ip (iproute2)")
        _sweep()
        try:
            self._add(self.servers)
            _ip("-n", self.servers, "link", "add", "bridge", "address", _hardware(1), "type", "bridge")
            _ip("-n", self.servers, "addr", "add", f"{SERVER}/24", "dev", "bridge")
            _ip("-n", self.servers, "link", "set", "bridge", "up")
        except subprocess.CalledProcessError as error:
            self.stop()
            raise Unavailable(f"no network namespaces here: {error.stderr.strip()}") from None

    def join(self, name: str) -> list[str]:
        """A machine with a link to the bridge; returns what runs a command on it."""
        machine, number = f"{_PREFIX}{os.getpid()}{name}", len(self._machines) + 2
        self._machines.append(machine)
        self._add(machine)
        _ip("-n", self.servers, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", machine)
        _ip("-n", self.servers, "link", "set", name, "master", "bridge", "up")
        _ip("-n", machine, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        _ip("-n", machine, "link", "set", "eth0", "address", _hardware(number), "up")
        # Else the kernel itself would notice that a neighbour is gone and say so at once, as no router does.
        _know(machine, "eth0", 1)
        _know(self.servers, "bridge", number)
        return on(machine)

    def cut(self, name: str) -> None:
        """From now on what is sent to and from the machine vanishes; nobody is told."""
        _ip("-n", self.servers, "link", "set", name, "nomaster")

    def heal(self, name: str) -> None:
        """The machine is reachable again."""
        _ip("-n", self.servers, "link", "set", name, "master", "bridge")

    def stop(self) -> None:
        """The namespaces and, with them, their links are gone."""
        for namespace in (*self._machines, self.servers):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)

    def _add(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")


def _sweep() -> None:
    """Namespaces of a test run that was killed."""
    for namespace in Path("/run/netns").glob(f"{_PREFIX}*"):
        owner = re.match(r"\d+", namespace.name.removeprefix(_PREFIX))
        if owner and not Path(f"/proc/{owner[0]}").exists():
            subprocess.run(["ip", "netns", "delete", namespace.name], check=False, capture_output=True)


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _know(namespace: str, device: str, number: int) -> None:
    entry = [f"10.77.0.{number}", "lladdr", _hardware(number), "dev", device, "nud", "permanent"]
    _ip("-n", namespace, "neighbour", "add", *entry)


def on(namespace: str) -> list[str]:
    """What runs a command in the namespace."""
    return ["ip", "netns", "exec", namespace]


def _ip(*arguments: str) -> None:
    command: Sequence[str] = ["ip", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)
