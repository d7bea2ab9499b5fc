"""Who is on the deny-list, whoever wrote it, and what it tells a stranger: nothing."""

import msgspec
import pytest
from cryptography.fernet import Fernet

from pipeline.errors import SettingsError
from pipeline.forward.erased import Erased
from pipeline.records import Record
from schemas.commands import (
    Command,
    CreateEvent,
    EraseProfile,
    Identity,
    SuppressProfile,
    UpsertProfile,
)
from schemas.event import Plan, Skipped

KEY, OTHER = (Fernet.generate_key().decode() for _ in range(2))
RECORD = Record("shop.customers", 2, 17, 0, b"C-1", None)
ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
GONE = Skipped("erased")


def update(*who: str | None) -> Command:
    return UpsertProfile(Identity(*who), {}, {})


def order(*who: str | None) -> Command:
    return CreateEvent(
        Identity(*who),
        "Placed Order",
        "O-1",
        "2026-01-01T00:00:00Z",
        msgspec.Raw(b"{}"),
        {},
    )


def stored(entries: dict[str, bytes | None]) -> dict[str, bytes]:
    return {key: value for key, value in entries.items() if value is not None}


def listed(*people: Identity, keys: str = KEY) -> dict[str, bytes]:
    """The state topic after these people were erased."""
    erased = Erased(keys)
    state = stored(erased.load({}))
    return state | stored(erased.entries(people, ["01H"], RECORD, "2026-11-24"))


@pytest.mark.parametrize(
    ("command", "denied"),
    [
        (update("C-1"), True),
        (update("C-1", "new@shop.dev"), True),
        (update("C-2", "ada@shop.dev"), True),
        (order(None, "ada@shop.dev"), True),
        (order(None, None, "+12025550123"), True),
        (SuppressProfile(ADA), True),
        (update("C-2", None, "+12025550123"), False),
        (order(None, "bob@shop.dev", "+12025550123"), False),
        (update("C-10"), False),
        (EraseProfile(ADA), False),
    ],
)
def test_who_is_denied(command: Command, *, denied: bool) -> None:
    """A phone counts where there is nothing else: households share one."""
    erased = Erased(KEY)
    erased.load(listed(ADA))
    plan = Plan([command])
    assert erased.admitted(plan) == (GONE if denied else plan)


def test_what_is_read_after_a_deletion_is_denied_before_it_is_done() -> None:
    erased = Erased(KEY)
    erased.load({})
    before = Plan([update("C-1")])
    assert erased.admitted(before) is before
    deletion = Plan([EraseProfile(Identity("C-1"))])
    assert erased.admitted(deletion) is deletion
    assert erased.admitted(before) == GONE
    nothing = Plan([])
    assert erased.admitted(nothing) is nothing


def test_the_list_tells_nobody_who_is_on_it() -> None:
    """Not even by digests somebody else could make."""
    one, other = listed(ADA), listed(ADA)
    for state in (one, other):
        told = b"".join([*state.values(), *map(str.encode, state)])
        for name in (b"C-1", b"ada@", b"+1202"):
            assert name not in told
    assert not {key for key in one if key.startswith("person/")} & other.keys()


def test_what_each_of_two_replicas_writes_counts_for_both() -> None:
    """Both may have made a salt before they knew of each other."""
    one, other = Erased(KEY), Erased(KEY)
    state = stored(one.load({})) | stored(other.load({}))
    state |= stored(one.entries([Identity("C-1")], [], RECORD, ""))
    state |= stored(other.entries([Identity("C-2")], [], RECORD, ""))
    for replica in (one, other, Erased(KEY)):
        replica.load(state)
        for name in ("C-1", "C-2"):
            assert replica.admitted(Plan([update(name)])) == GONE


def test_a_second_erasure_forgets_nothing_of_the_first() -> None:
    """A replay finds no profile any more, so it knows the customer's id alone."""
    erased = Erased(KEY)
    state = stored(erased.load({}))
    state |= stored(erased.entries([ADA], ["01H"], RECORD, "2026-11-24"))
    state |= stored(erased.entries([Identity("C-1")], [], RECORD, "2026-11-25"))
    again = Erased(KEY)
    again.load(state)
    assert again.admitted(Plan([update(None, "ada@shop.dev")])) == GONE
    assert sum(key.startswith("record/") for key in state) == 2


def test_the_key_can_be_changed() -> None:
    state = listed(ADA)
    both = Erased(f"{OTHER},{KEY}")
    anew = stored(both.load(state))
    assert [key.split("/")[0] for key in anew] == ["salt"]
    alone = Erased(OTHER)
    assert alone.load(state | anew) == {}
    assert alone.admitted(Plan([update("C-1")])) == GONE


def test_a_list_of_another_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="sealed with another one"):
        Erased(OTHER).load(listed(ADA))
    with pytest.raises(SettingsError, match="no Fernet key"):
        Erased("password")


def test_the_audit_record_says_when_and_what() -> None:
    state = listed(ADA)
    record = msgspec.json.decode(state["record/shop.customers/2/17/2026-11-24"])
    (person,) = (key for key in state if key.startswith("person/"))
    assert record == {
        "at": "2026-11-24",
        "person": person.split("/")[1],
        "profiles": ["01H"],
    }
