"""A real Apache Kafka of one node, for the tests that no mock can stand in for.

`find` takes the first that is there: `KAFKA_BOOTSTRAP_SERVERS`; Java with Maven (43 MB of
jars, once, in `.cache/kafka` or `KAFKA_JARS`); docker. The last two are ours to kill.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.cimpl import NewTopic

from tests.certificates import Authority, Pair
from tests.ports import free_port

__all__ = ["PASSWORD", "USER", "Apache", "Unavailable", "find"]

HERE: Final = Path(__file__).parent
JARS: Final = Path(os.environ.get("KAFKA_JARS", HERE.parent.parent / ".cache" / "kafka"))
IMAGE: Final = "apache/kafka:4.1.0"
UP: Final = 60.0  # s until a broker must answer
PATIENCE: Final = 4.0  # s with one question; what a hung broker had may stay unanswered
USER: Final = "ada"
PASSWORD: Final = "planted-password"  # of a broker that lives for one run


class Unavailable(Exception):
    """No real broker can be had here; the text says what would make one."""


class _Machine(Protocol):
    """What the broker runs on. `pause` is hung, not closed: nobody answers any more."""

    def start(self, properties: Mapping[str, str]) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def remove(self) -> None: ...


class _Java:
    def __init__(self, cluster: str = "") -> None:
        self.cluster = cluster or uuid.uuid4().hex[:22]
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-test-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, properties: Mapping[str, str]) -> None:
        file = self._folder / "node.properties"
        if not file.exists():
            settings = {**properties, "log.dirs": str(self._folder / "data")}
            file.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
            _run(
                *_java(),
                "kafka.tools.StorageTool",
                "format",
                "-t",
                self.cluster,
                "-c",
                str(file),
            )
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_java("-Xmx512m"), "kafka.Kafka", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Docker:
    def __init__(self) -> None:
        self._name = f"kafka-test-{uuid.uuid4().hex[:8]}"
        self._made = False

    def start(self, properties: Mapping[str, str]) -> None:
        if self._made:
            _run("docker", "start", self._name)
            return
        settings = [
            part
            for key, value in properties.items()
            for part in ("--env", f"KAFKA_{_variable(key)}={value}")
        ]
        _run(
            *("docker", "run", "--detach", "--network", "host", "--name", self._name),
            *settings,
            IMAGE,
        )
        self._made = True

    def kill(self) -> None:
        _run("docker", "kill", self._name)

    def pause(self) -> None:
        _run("docker", "pause", self._name)

    def resume(self) -> None:
        _run("docker", "unpause", self._name)

    def remove(self) -> None:
        _run("docker", "rm", "--force", "--volumes", self._name)


class Apache:
    """One broker, for the length of the block."""

    def __init__(self, bootstrap: str = "", machine: _Machine | None = None) -> None:
        self.bootstrap = bootstrap
        # More addresses, for USER with PASSWORD only; brokers of ours have them.
        self.sasl = ""  # PLAIN, unencrypted
        self.tls = ""  # SCRAM-SHA-512 over TLS, vouched for by the file `authority`
        self.authority = Path()
        # One more, where a test may put a proxy, and where that must lead to.
        self.proxied = self.behind = ""
        self.more: dict[str, str] = {}  # properties beside and instead of ours
        self._machine = machine
        self._properties: dict[str, str] = {}

    @property
    def ours(self) -> bool:
        """Whether it may be killed and frozen."""
        return self._machine is not None

    def __enter__(self) -> Self:
        if self._machine is None:
            self._await()
            return self
        ports = [f"127.0.0.1:{port}" for port in (free_port() for _ in range(6))]
        self.bootstrap, self.sasl, self.tls, self.proxied, self.behind = ports[:5]
        self._folder = tempfile.TemporaryDirectory(prefix="kafka-test-")
        authority = Authority(Path(self._folder.name))
        self.authority = authority.file
        addresses = {
            "PLAINTEXT": self.bootstrap,
            "SASL_PLAINTEXT": self.sasl,
            "SASL_SSL": self.tls,
            "PROXIED": self.behind,
        }
        pair = authority.vouch("127.0.0.1")
        self._properties = _properties(addresses, self.proxied, ports[5], pair)
        self._properties |= self.more
        if self._properties["process.roles"] == "broker":
            own, _, _ = self._properties["listeners"].partition(",CONTROLLER")
            self._properties["listeners"] = own
        try:
            self.start()
            self._admit()
        except BaseException:  # interrupted too: no broker outlives its tests
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._machine is not None:
            self._machine.remove()
            self._folder.cleanup()

    def _admit(self) -> None:
        """Let USER log in by SCRAM; unlike PLAIN's, its passwords are in the cluster."""
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion(USER, scram, PASSWORD.encode())
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.alter_user_scram_credentials([user]).values():
            future.result(20)

    @property
    def _owned(self) -> _Machine:
        assert self._machine is not None, "not our broker: it must not be touched"
        return self._machine

    @property
    def encrypted(self) -> dict[str, str]:
        """Settings to come by SCRAM over TLS."""
        return {
            "kafka__bootstrap_servers": self.tls,
            "kafka__security_protocol": "SASL_SSL",
            "kafka__sasl_mechanism": "SCRAM-SHA-512",
            "kafka__sasl_username": USER,
            "kafka__sasl_password": PASSWORD,
            "kafka__ssl_cafile": str(self.authority),
        }

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self._owned.start(self._properties)
        self._await()

    def kill(self) -> None:
        """kill -9: nothing is closed in order."""
        self._owned.kill()

    def freeze(self) -> None:
        """Hung, not closed: connections stay open and nobody answers."""
        self._owned.pause()

    def thaw(self) -> None:
        """Go on after `freeze`, and wait until it answers."""
        self._owned.resume()
        self._await()

    def second(self) -> "Apache":
        """Another broker of the same cluster, not yet entered; raises `Unavailable`."""
        if not isinstance(self._machine, _Java):
            raise Unavailable("a second broker is started with Java and Maven only")
        other = Apache(machine=_Java(self._machine.cluster))
        voters = "controller.quorum.voters"
        other.more = {
            **self.more,
            "process.roles": "broker",
            "node.id": "2",
            voters: self._properties[voters],
        }
        return other

    def create(self, *topics: str, partitions: int = 1, **config: str) -> None:
        """Make topics; configuration keys have underscores for dots."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        new = [NewTopic(name, partitions, 1, config=settings) for name in topics]
        for future in admin.create_topics(new).values():
            future.result(20)

    def lose(self, *topics: str, group: str = "") -> None:
        """Delete topics, or a group with its offsets, as nobody should."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.delete_topics([*topics]).values() if topics else ():
            future.result(20)
        while {*topics} & admin.list_topics(timeout=10).topics.keys():
            time.sleep(0.05)  # the client tells no more than this
        for future in admin.delete_consumer_groups([group]).values() if group else ():
            future.result(20)

    def _await(self) -> None:
        # Asked for a topic, not for a list: its controller counts a broker that was away
        # as gone for some seconds, and can place no topic meanwhile.
        deadline = time.monotonic() + UP
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        new = [NewTopic(f"probe-{uuid.uuid4().hex}", 1, 1)]
        while True:
            try:
                admin.list_topics(timeout=2)
                asked = admin.create_topics(
                    new, validate_only=True, request_timeout=PATIENCE
                )
                for future in asked.values():
                    future.result(2 * PATIENCE)
            except (KafkaException, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"no answer from {self.bootstrap}: {error}"
                    ) from error
            else:
                return


def find() -> Apache:
    """Return the first real broker there is, not yet entered; raises `Unavailable`."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return Apache(bootstrap)
    if shutil.which("java") and (shutil.which("mvn") or any(JARS.glob("kafka_*.jar"))):
        return Apache(machine=_Java())
    if shutil.which("docker"):
        try:
            _run("docker", "info")
        except Unavailable:
            pass
        else:
            return Apache(machine=_Docker())
    raise Unavailable(
        "no real Kafka: set KAFKA_BOOTSTRAP_SERVERS, install Java 17 and Maven, or start "
        "docker"
    )


def _properties(
    addresses: Mapping[str, str], proxied: str, controller: str, pair: Pair
) -> dict[str, str]:
    modules = "org.apache.kafka.common.security"
    listeners = ",".join(f"{name}://{at}" for name, at in addresses.items())
    plain, encrypted = "listener.name.sasl_plaintext", "listener.name.sasl_ssl"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listeners},CONTROLLER://{controller}",
        "advertised.listeners": listeners.replace(addresses["PROXIED"], proxied),
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,"
            "PROXIED:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT"
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        f"{plain}.sasl.enabled.mechanisms": "PLAIN",
        f"{plain}.plain.sasl.jaas.config": (
            f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
        f"{encrypted}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{encrypted}.scram-sha-512.sasl.jaas.config": (
            f"{modules}.scram.ScramLoginModule required;"
        ),
        f"{encrypted}.ssl.keystore.type": "PEM",
        f"{encrypted}.ssl.keystore.certificate.chain": _line(pair.certificate),
        f"{encrypted}.ssl.keystore.key": _line(pair.key),
        # After a kill -9 it must not wait for its own old session to end.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "300",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
    }


def _line(pem: str) -> str:
    """PEM as one line of a properties file, which reads \\n as the end of a line."""
    return pem.strip().replace("\n", "\\n")


def _variable(key: str) -> str:
    """The image's form of a property's name: . becomes _, _ becomes __, - becomes ___."""
    return key.replace("_", "__").replace("-", "___").replace(".", "_").upper()


def _java(*more: str) -> list[str]:
    flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *more]
    return ["java", *flags, "-cp", f"{_jars()}/*"]


def _jars() -> Path:
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        if any(JARS.glob("kafka_*.jar")):
            return JARS
        part = JARS / "part"
        shutil.rmtree(part, ignore_errors=True)
        fetch = ("dependency:copy-dependencies", f"-DoutputDirectory={part}")
        _run("mvn", "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml"), *fetch)
        # Kafka's own comes last: where it is, all are, also after an interruption.
        for jar in sorted(
            part.iterdir(), key=lambda each: each.name.startswith("kafka_")
        ):
            jar.rename(JARS / jar.name)
        part.rmdir()
    return JARS


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stdout + done.stderr)[-500:]}")
