"""The deny-list: who was erased must not come back by a later record of theirs.

It holds no identifier, only digests of them under a salt that `secrets.key` seals:

    salt/<id>                                ->  the salt, sealed
    person/<digest>/<of all of them>         ->  digests of what is known of one person
    record/<topic>/<partition>/<offset>/<at> ->  the audit record, JSON

A second erasure of the same person may know less than the first: neither overwrites what
the other wrote.
Two replicas that erase for the first time at once make a salt each: both are used.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from cryptography.fernet import InvalidToken

from pipeline.errors import SettingsError
from pipeline.records import Record
from pipeline.settings.seal import seal
from schemas.commands import EraseProfile, Identity
from schemas.event import Plan, Skipped

__all__ = ["Erased"]

DIGEST: Final = 16  # bytes
SALT: Final = 32  # bytes
ERASED: Final = Skipped("erased")


class Erased:
    """Who is on the list; a table of `Facts`."""

    def __init__(self, keys: str) -> None:
        """`keys` are those of secrets.key. Raises `SettingsError`."""
        self._seal = seal(keys)
        self._first = seal(keys.partition(",")[0])
        self._salts: dict[str, bytes] = {}
        self._read: set[str] = set()
        self._digests: set[bytes] = set()

    def load(self, entries: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Take in what is new; give the salt to write, the first or one to seal anew.

        Raises `SettingsError` for a salt of another key.
        """
        written: dict[str, bytes | None] = {}
        for key in entries.keys() - self._read:
            kind, _, rest = key.partition("/")
            if kind == "salt":
                self._salts[rest] = self._opened(entries[key])
                if not self._newest(entries[key]):
                    written[key] = self._seal.rotate(entries[key])
            elif kind == "person":
                self._digests.update(_apart(entries[key]))
            self._read.add(key)
        if not self._salts:
            name, salt = secrets.token_hex(4), secrets.token_bytes(SALT)
            self._salts[name] = salt
            written[f"salt/{name}"] = self._seal.encrypt(salt)
        return written

    def admitted(self, plan: Plan) -> Plan | Skipped:
        """The plan, unless it is about somebody who was erased.

        Whose erasure is asked for counts as erased from here on: what was read after it
        must not be sent before it.
        """
        who = plan.commands[0].identity if plan.commands else None
        if who is None:
            return plan
        if any(isinstance(command, EraseProfile) for command in plan.commands):
            self._digests.update(self._of(who.names(), every=False))
            return plan
        if self._digests and not self._digests.isdisjoint(
            self._of(_deciding(who), every=True)
        ):
            return ERASED
        return plan

    def entries(
        self, people: Iterable[Identity], profiles: Sequence[str], record: Record, at: str
    ) -> dict[str, bytes | None]:
        """Put people on the list, and give what is to be kept of it.

        `profiles` are Klaviyo's ids of what is erased, for the audit record.
        """
        names = dict.fromkeys(name for who in people for name in who.names())
        digests = self._of(names, every=False)
        self._digests.update(digests)
        place = f"{record.topic}/{record.partition}/{record.offset}/{at}"
        person, known = digests[0].hex(), b"".join(digests)
        whole = hashlib.blake2b(known, digest_size=DIGEST).hexdigest()
        written = {"at": at, "person": person, "profiles": profiles}
        return {
            f"person/{person}/{whole}": known,
            f"record/{place}": msgspec.json.encode(written),
        }

    def _of(self, names: Iterable[str], *, every: bool) -> list[bytes]:
        """Digests of names: under the salt we write with, or under every one there is."""
        salts = [self._salts[name] for name in sorted(self._salts)]
        return [
            hashlib.blake2b(name.encode(), key=salt, digest_size=DIGEST).digest()
            for salt in (salts if every else salts[:1])
            for name in names
        ]

    def _newest(self, sealed: bytes) -> bool:
        try:
            return bool(self._first.decrypt(sealed))
        except InvalidToken:
            return False

    def _opened(self, sealed: bytes) -> bytes:
        try:
            return self._seal.decrypt(sealed)
        except InvalidToken:
            raise SettingsError(
                "The list of erased customers cannot be read with secrets.key: it was "
                "sealed with another one. Put the former key behind the new one, with a "
                "comma between them; without it the erased would come back."
            ) from None


def _deciding(who: Identity) -> Sequence[str]:
    """Names that tell who it is: a phone does only if there is nothing else.

    People share phones, and a record that has its own id or address is its owner's.
    """
    return [name for name in who.names() if name[0] != "p"] or who.names()


def _apart(value: bytes) -> Iterable[bytes]:
    return (value[at : at + DIGEST] for at in range(0, len(value), DIGEST))
