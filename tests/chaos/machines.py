"""A site of several machines: Postgres, Redis and a relay on one of them, workers on others, TCP between them."""

import sys
from pathlib import Path

import psycopg

import broker.embedded
import db.embedded
from tests.chaos.netns import SERVER, Network, on
from tests.processes import Process


class Site:
    """Everything it starts ends with `stop`."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.network = Network()
        self._folder = folder
        self._postgres = folder / "postgres"
        self._processes: list[Process] = []
        self._env = {
            "GRISTMILL_DATABASE_URL": f"postgresql://postgres@{SERVER}/gristmill",
            "GRISTMILL_BROKER_URL": f"redis://{SERVER}/0",
            **env,
        }

    @property
    def local_url(self) -> str:
        """The same Postgres by its socket, which this process reaches from outside the network."""
        return f"postgresql://postgres@/gristmill?host={self._postgres}"

    def start(self) -> None:
        """The network and the servers."""
        self.network.start()
        here = on(self.network.servers)
        self._start_postgres(here)
        options = ["--bind", SERVER, "--protected-mode", "no", "--save", "", "--dir", str(self._folder)]
        self._run([*here, broker.embedded._binary(), *options], "accept connections")

    def relay(self) -> Process:
        """A relay, beside the servers."""
        return self._run(
            [*on(self.network.servers), sys.executable, "-c", "from workers.relay import main; main()"], "relay_ready"
        )

    def worker(self, name: str) -> Process:
        """A worker on a new machine of this name; it takes jobs of the queue cpu, and cpu.<name> of its own."""
        celery = [sys.executable, "-m", "celery", "-A", "broker.app", "worker", "-n", f"{name}@test"]
        options = ["-Q", f"cpu,cpu.{name}", "-c", "1", "--without-gossip", "--without-mingle", "-l", "INFO"]
        return self._run([*self.network.join(name), *celery, *options], "ready.")

    def stop(self) -> None:
        """Processes, servers, namespaces."""
        for process in reversed(self._processes):
            process.stop(timeout=5)
        self.network.stop()

    def _run(self, arguments: list[str], ready: str) -> Process:
        started = Process(arguments, self._folder, **self._env)
        self._processes.append(started)
        started.wait_for(ready)
        return started

    def _start_postgres(self, here: list[str]) -> None:
        account = db.embedded._account()
        db.embedded._initialise(self._postgres, account)
        db.embedded._let_pass(self._postgres, account)
        with (self._postgres / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/24 trust\n")
        user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        options = ["-D", str(self._postgres), "-h", SERVER, "-k", str(self._postgres), "-c", "max_connections=200"]
        self._run([*here, *user, str(db.embedded._binaries() / "postgres"), *options], "ready to accept connections")
        with psycopg.connect(self.local_url.replace("/gristmill", "/postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE gristmill")
