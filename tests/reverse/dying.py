"""The program, with a death (or a sleep) planted at one moment of one transaction.

`FALL=sent:3` falls in the third transaction, when its records are written and the commit
is not asked for; `FALL_BY=STOP` falls asleep there (SIGSTOP) instead of dying.
`FALL=telling:0` writes to Klaviyo and never comes to tell so.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.cli import main
from pipeline.forward.sent import Sent

PHASES = ("begin", "begun", "sent", "committing", "committed")


def plant() -> None:
    phase, _, number = os.environ.get("FALL", "never:0").partition(":")
    number_of = {"left": int(number)}
    by = signal.Signals[f"SIG{os.environ.get('FALL_BY', 'KILL')}"]
    begin, commit = (
        AIOKafkaProducer.begin_transaction,
        AIOKafkaProducer.commit_transaction,
    )

    def at(here: str) -> None:
        if here == phase and number_of["left"] == 0:
            number_of["left"] = -1
            os.kill(os.getpid(), by)

    async def begin_transaction(self: Any) -> None:
        number_of["left"] -= 1
        at("begin")
        await begin(self)
        at("begun")

    async def commit_transaction(self: Any) -> None:
        at("sent")
        committing = asyncio.ensure_future(commit(self))
        await asyncio.sleep(0.001)  # the request is on its way then
        at("committing")
        await committing
        at("committed")

    async def send(*_: object) -> None:
        await asyncio.Event().wait()  # whoever started it lets it die

    if phase == "telling":
        Sent._send = send  # type: ignore[assignment]
    AIOKafkaProducer.begin_transaction = begin_transaction
    AIOKafkaProducer.commit_transaction = commit_transaction


if __name__ == "__main__":
    plant()
    sys.exit(main())
