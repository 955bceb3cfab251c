"""Where a process of ours listens: a port that is free, and the address kept for whoever looks for it."""

import errno
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

from broker.log import told
from db.settings import SettingsError, settings

LOOPBACK = "127.0.0.1"


def announce(name: str, address: str) -> None:
    """Say where something listens, and keep it for `gristmill up` and doctor."""
    tell(f"{name}: {address}")
    file = address_file(settings().home, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(address)


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
    """Where a running Flower or the metrics leave their address."""
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
