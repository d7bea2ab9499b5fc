"""Processes under measure: what they cost, read from outside of them (Linux)."""

import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from tests.ports import free_port

__all__ = ["Child", "Sink", "bare", "cpu", "limit", "pipeline", "rss"]

_TICK: Final = os.sysconf("SC_CLK_TCK")  # of the CPU times in /proc, a second
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes


def cpu(process: int) -> float:
    """CPU seconds of a process so far, all threads."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def rss(process: int) -> int:
    """Bytes of memory a process holds now."""
    statm = Path(f"/proc/{process}/statm").read_text(encoding="utf-8")
    return int(statm.split()[1]) * _PAGE


class Child:
    """A process for the length of the block; killed if it still runs then."""

    def __init__(
        self,
        *command: str,
        environ: Mapping[str, str] | None = None,
        endless: bool = True,
        log: bool = False,
    ) -> None:
        """`endless`: it ends when asked; `log`: its lines are those of its log."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
        other = None if "BENCH_DEBUG" in os.environ else subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=inherited | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if log else other,
        )
        self._name = " ".join(command)
        self._endless = endless
        self.code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def line(self) -> str:
        """The next line it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def cpu(self) -> float:
        """CPU seconds so far, all threads."""
        return cpu(self._process.pid)

    def rss(self) -> int:
        """Bytes of memory it holds now."""
        return rss(self._process.pid)

    def peak(self) -> int:
        """Bytes of memory it ever held."""
        path = Path(f"/proc/{self._process.pid}/status")
        (line,) = (x for x in path.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def finish(self) -> float:
        """Let it end, asked as Kubernetes does if it would not by itself.

        All CPU seconds it has cost. Raises `RuntimeError` when it ended badly.
        """
        if self._endless:
            self._process.send_signal(signal.SIGTERM)
        _, status, used = os.wait4(self._process.pid, 0)
        self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
        if self.code:
            raise RuntimeError(f"{self._name} ended with {self.code}")
        return used.ru_utime + used.ru_stime


class Told(msgspec.Struct):
    """What the counting sink has seen."""

    calls: int
    requests: int
    rows: int
    bytes: int
    arrivals: list[float]
    cpu: float


class Sink(Child):
    """A counting sink in a process of its own."""

    def __init__(self) -> None:
        super().__init__("-m", "tests.bench.sink")
        self.url = self.line()

    def told(self) -> Told:
        with urllib.request.urlopen(f"{self.url}/sink", timeout=10) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=Told)


def pipeline(
    bootstrap: str, topic: str, url: str, group: str = "", *, echo: bool = False
) -> Child:
    """The built program, from the beginning, in a group of its own if not told.

    The forward direction alone; with `echo` it also tells the reverse one what it sent.
    """
    settings = {
        "SUBSCRIPTION__NAME": f"bench {group or uuid.uuid4().hex}",
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA__TOPICS": topic,
        "KAFKA__START": "earliest",
        "KLAVIYO__API_URL": url,
        "KLAVIYO__API_KEY": "pk_bench",
        "KLAVIYO__API_REVISION": "2026-07-15",
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": str(free_port()),
        "REVERSE__ENABLED": str(echo),
    }
    environ = {f"PIPELINE_{name}": value for name, value in settings.items()}
    return Child("-m", "pipeline", "run", "--only", "forward", environ=environ)


def limit(bootstrap: str, topic: str, url: str, records: int) -> Child:
    """The hand-written limit; ends by itself."""
    command = ("-m", "tests.bench.limit", bootstrap, topic, str(records), url)
    return Child(*command, endless=False)


def bare(bootstrap: str, topic: str, url: str, records: int) -> Child:
    """The bare loop; ends by itself."""
    command = ("-m", "tests.bench.bare", bootstrap, topic, str(records), url)
    return Child(*command, endless=False)
