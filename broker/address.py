"""Where a process of ours listens: a port that is free, and the address kept for whoever looks for it."""

import errno
import fcntl
import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from broker.log import told
from db.settings import SettingsError, settings

LOOPBACK = "127.0.0.1"


def announce(name: str, address: str) -> None:
    """Say where something listens, and keep it for doctor and the demo; what another that is alive has kept stays."""
    _keep(address_file(settings().home, name), address)
    tell(f"{name}: {address}")


def _keep(file: Path, address: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)  # for as long as this process lives
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops the lock of whoever ended
    except BlockingIOError:
        os.close(held)
        return
    os.ftruncate(held, 0)
    os.write(held, address.encode())
    os.set_inheritable(held, True)  # `gristmill flower` becomes another program, and holds it still


def listening(home: Path, name: str) -> str | None:
    """Where something listens now; None if nothing does: the file stays when its process ends."""
    try:
        address = address_file(home, name).read_text()
        parts = urlsplit(address)
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1):
            return address
    except OSError:
        return None


def url(host: str, port: int) -> str:
    """The address of HTTP there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def address_file(home: Path, name: str) -> Path:
    """Where Flower, the metrics and the web leave their address."""
    return home / "run" / f"{name}.url"


def free_port(first: int, host: str = LOOPBACK, tries: int = 50) -> int:
    """The first port from `first` on that nothing listens on; says so if it is another one."""
    for port in range(first, min(first + tries, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise SettingsError(f"{host}:{port}: {error.strerror}: give another with --host or --port") from None
            if port != first:
                tell(f"port {first} is taken")
            return port
    raise SettingsError(f"ports {first} to {first + tries - 1} are all taken: give another with --port")


def tell(line: str) -> None:
    """Say something on the way into another program, whose output is unbuffered by ours."""
    sys.stdout.write(told(line) + "\n")
    sys.stdout.flush()
