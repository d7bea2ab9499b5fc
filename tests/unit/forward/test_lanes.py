"""No change of a customer overtakes an earlier one, whatever is joined or sent anew."""

import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forward.batch import Parcel
from pipeline.forward.lanes import LAST, Group, Lanes, _order
from pipeline.forward.routes import Route
from pipeline.records import Item, Kind, Lot, Record, Ticket
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    Identity,
    SuppressProfile,
    UpsertProfile,
)

IDS = st.sampled_from(["C1", "C2", "C3", None])
EMAILS = st.sampled_from(["a@shop.dev", "b@shop.dev", None])
PHONES = st.sampled_from(["+12025550101", "+12025550102", None])
IDENTITIES = st.builds(Identity, external_id=IDS, email=EMAILS, phone=PHONES).filter(
    lambda identity: identity.names()
)
KINDS: tuple[Kind, ...] = (
    "profile",
    "single",
    "event",
    "consent",
    "erase",
    "suppress",
)


def profile(identity: Identity, **fields: str | None) -> UpsertProfile:
    return UpsertProfile(identity, dict(fields), {})


def event(
    identity: Identity, unique_id: str = "O-1", *, history: bool = False
) -> CreateEvent:
    return CreateEvent(
        identity,
        "Placed Order",
        unique_id,
        "2026-01-01T00:00:00Z",
        msgspec.Raw(b"{}"),
        {},
        backfill=history,
    )


def command(kind: Kind, who: Identity, sequence: int) -> Command:
    """One that is carried by that kind of route."""
    match kind:
        case "event":
            return event(who, history=sequence % 3 == 0)
        case "erase":
            return EraseProfile(who)
        case "consent" | "late":
            return ChangeConsent(who, "2026-01-01T00:00:00Z", {}, {})
        case "suppress":
            return SuppressProfile(who)
        case "profile" | "single":
            return profile(who, first_name=str(sequence) if kind == "profile" else None)


LOT = Lot()


def parcel(rows: int) -> Parcel:
    return Parcel(Route("some_operation", "event", rows), "2026-07-15")


def ticket(sequence: int, lot: Lot = LOT) -> Ticket:
    return Ticket(Record("t", 0, sequence, 0, None, b"v"), lot, sequence, 1)


def sequences(item: Item) -> list[int]:
    return [part.sequence for part, _ in item.parts]


class History:
    """What was added and what ended, to hold the lanes against."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.names: dict[int, frozenset[str]] = {}
        self.left: dict[int, int] = {}
        self.groups: list[Group] = []

    def add(self, sequence: int, identity: Identity, kinds: list[Kind]) -> None:
        commands = [command(kind, identity, sequence) for kind in kinds]
        self.names[sequence] = frozenset(identity.names())
        self.left[sequence] = len(commands)
        self.lanes.add(ticket(sequence), commands)

    def take(self, kind: Kind, rows: int) -> None:
        group = self.lanes.take(kind, parcel(rows))
        if not group.items:
            return
        assert len(group.items) <= rows
        mine = {n for item in group.items for s in sequences(item) for n in self.names[s]}
        for other in self.groups:
            theirs = {
                n for item in other.items for s in sequences(item) for n in self.names[s]
            }
            assert not mine & theirs, "two requests of one customer are in flight"
        inside = {s for item in group.items for s in sequences(item)}
        for sequence in inside:
            for earlier, names in self.names.items():
                if (
                    earlier < sequence
                    and names & self.names[sequence]
                    and self.left[earlier]
                ):
                    assert earlier in inside, "a later change overtook an earlier one"
        order = [min(sequences(item)) for item in group.items]
        for first, second in itertools.pairwise(order):
            if self.names[first] & self.names[second]:
                assert first <= second
        self.groups.append(group)

    def release(self, index: int, again: frozenset[int]) -> None:
        group = self.groups.pop(index)
        back = []
        for position, item in enumerate(group.items):
            if position in again:
                back += item.halves() if len(item.parts) > 1 else [item]
            else:
                for sequence in sequences(item):
                    self.left[sequence] -= 1
        self.lanes.release(group, back)

    def in_order(self) -> None:
        """Joining sorts the queues: what is out of order now goes wrong later."""
        for lane in self.lanes._by_name.values():
            order = [item.sequence for item in lane.items]
            assert order == sorted(order)
            if not all(item.history for item in lane.items):
                assert _order(lane) < LAST, "a live one waits among the last"


@settings(max_examples=400)
@given(st.data())
def test_order_per_customer_holds(data: st.DataObject) -> None:
    history = History()
    sequence = 0
    steps = st.lists(st.sampled_from("aaaattrr"), min_size=15, max_size=60)
    for step in data.draw(steps):
        if step == "a":
            sequence += 1
            kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
            history.add(sequence, data.draw(IDENTITIES), kinds)
        elif step == "t":
            rows = data.draw(st.sampled_from([1, 1, 3, 100]))
            history.take(data.draw(st.sampled_from(KINDS)), rows)
        elif history.groups:
            index = data.draw(st.integers(0, len(history.groups) - 1))
            again = data.draw(st.frozensets(st.integers(0, 3)))
            history.release(index, again)
        history.in_order()
    # Whatever happened, all of it can be sent to its end, and then nothing is kept.
    for _ in range(10_000):
        while history.groups:
            history.release(0, frozenset())
        for kind in KINDS:
            history.take(kind, 100)
        if not history.groups:
            break
    assert not any(history.left.values())
    assert not history.lanes._by_name
    assert history.lanes.in_flight == 0
    for kind in KINDS:
        assert not history.lanes.ready(kind)
        assert not history.lanes.waiting(kind)


def test_what_comes_back_to_a_joined_lane_is_not_overtaken() -> None:
    lanes = Lanes()
    ada, mail, phone = (
        Identity(external_id="C1"),
        Identity(email="a@shop.dev"),
        Identity(phone="+12025550101"),
    )
    lanes.add(ticket(1), [profile(ada, title="Dr")])
    lanes.add(ticket(2), [event(mail)])
    out = lanes.take("event", parcel(1))
    both = Identity(external_id="C1", email="a@shop.dev")
    lanes.add(ticket(3), [profile(both, title="Sir")])  # one with that of the first
    lanes.release(out, out.items)
    lanes.add(ticket(4), [event(phone)])
    called = Identity(external_id="C1", phone="+12025550101")
    lanes.add(ticket(5), [event(called)])  # joins once more
    assert not lanes.take("profile", parcel(9)).items, "the third would go first"
    order = []
    while (
        items := (group := lanes.take("event", parcel(1))).items
        or (group := lanes.take("profile", parcel(1))).items
    ):
        order += [sequences(item) for item in items]
        lanes.release(group)
    assert order == [[2], [1, 3], [4], [5]]


def test_waiting_profile_updates_of_a_customer_become_one() -> None:
    lanes, ada = Lanes(), Identity(external_id="C1")
    tickets = [ticket(n) for n in (1, 2, 3)]
    lanes.add(tickets[0], [profile(ada, first_name="A", last_name="L")])
    lanes.add(tickets[1], [profile(ada, first_name="Ada")])
    lanes.add(tickets[2], [profile(ada, title="Dr")])
    (item,) = lanes.take("profile", parcel(100)).items
    assert isinstance(item.command, UpsertProfile)
    assert item.command.attributes == {
        "first_name": "Ada",
        "last_name": "L",
        "title": "Dr",
    }
    assert [part for part, _ in item.parts] == tickets


def test_an_update_in_flight_takes_nothing_more() -> None:
    lanes, ada = Lanes(), Identity(external_id="C1")
    lanes.add(ticket(1), [profile(ada, first_name="A")])
    group = lanes.take("profile", parcel(1))
    lanes.add(ticket(2), [profile(ada, first_name="B")])
    assert not lanes.take("profile", parcel(1)).items
    assert len(group.items[0].parts) == 1
    lanes.release(group)
    assert len(lanes.take("profile", parcel(1)).items) == 1


def test_an_event_between_two_updates_keeps_them_apart() -> None:
    lanes, ada = Lanes(), Identity(external_id="C1")
    lanes.add(ticket(1), [profile(ada, first_name="A")])
    lanes.add(ticket(2), [event(ada)])
    lanes.add(ticket(3), [profile(ada, first_name="B")])
    first = lanes.take("profile", parcel(10))
    assert [sequences(item) for item in first.items] == [[1]]
    assert not lanes.take("event", parcel(10)).items
    lanes.release(first)
    second = lanes.take("event", parcel(10))
    assert [sequences(item) for item in second.items] == [[2]]


def test_the_oldest_goes_first() -> None:
    lanes = Lanes()
    for n in (1, 2, 3):
        lanes.add(
            ticket(n),
            [event(Identity(external_id=f"C{n}")), event(Identity(external_id=f"C{n}"))],
        )
    group = lanes.take("event", parcel(1))
    lanes.release(group)
    assert sequences(lanes.take("event", parcel(1)).items[0]) == [1]


async def test_nothing_of_an_earlier_assignment_comes_back() -> None:
    lanes, ada = Lanes(), Identity(external_id="C1")
    lanes.add(ticket(1), [event(ada)])
    lanes.add(ticket(2), [event(ada)])
    group = lanes.take("event", parcel(1))
    lanes.clear()
    lanes.release(group, group.items)
    assert not lanes.take("event", parcel(10)).items
    lanes.add(ticket(1), [event(ada)])
    assert len(lanes.take("event", parcel(10)).items) == 1


def test_a_shared_identifier_does_not_gather_names_for_ever() -> None:
    lanes = Lanes()
    for n in range(1, 5000):
        shared = Identity(external_id=f"C{n}", email="pos@shop.dev")
        lanes.add(ticket(n), [event(shared)])
        if n > 2:  # the lane never runs empty
            lanes.release(lanes.take("event", parcel(1)))
    assert len(lanes._by_name) < 200


def test_history_goes_last_and_a_live_event_takes_its_customer_along() -> None:
    lanes = Lanes()
    for number in range(1, 4):
        old = event(Identity(external_id=f"C{number}"), history=True)
        lanes.add(ticket(number), [old])
    lanes.add(ticket(4), [event(Identity(external_id="C4"))])
    lanes.add(ticket(5), [event(Identity(external_id="C2"))])  # behind its history
    lanes.add(ticket(6), [profile(Identity(external_id="C6"))])
    group = lanes.take("event", parcel(5))
    assert [sequences(item) for item in group.items] == [[2], [5], [4], [1], [3]]


def test_a_live_event_between_history_does_not_wait_for_everybody_elses() -> None:
    lanes, ada = Lanes(), Identity(external_id="C1")
    lanes.add(ticket(1), [event(ada)])
    group = lanes.take("event", parcel(1))
    for number in range(2, 5):
        other = Identity(external_id=f"C{number}")
        lanes.add(ticket(number), [event(other, history=True)])
    lanes.add(ticket(5), [event(ada, "O-5", history=True)])
    lanes.add(ticket(6), [event(ada, "O-6")])
    lanes.add(ticket(7), [event(ada, "O-7", history=True)])
    lanes.release(group)
    order = []
    while items := (group := lanes.take("event", parcel(1))).items:
        order += sequences(items[0])
        lanes.release(group)
    assert order == [5, 6, 2, 3, 4, 7]


def test_history_sent_anew_still_goes_last() -> None:
    lanes = Lanes()
    lanes.add(ticket(1), [event(Identity(external_id="C1"), history=True)])
    group = lanes.take("event", parcel(1))
    lanes.add(ticket(2), [event(Identity(external_id="C2"))])
    lanes.release(group, group.items)
    (item,) = lanes.take("event", parcel(1)).items
    assert sequences(item) == [2]


def test_what_is_left_of_a_run_waits_for_history_no_longer() -> None:
    """Its first event happened long ago, the other one just now."""
    lanes = Lanes()
    who = Identity(external_id="C1")
    old, new = event(who, history=True), event(who, "O-2")
    new.profile = old.profile
    lanes.add(ticket(1), [old, new])
    lanes.release(lanes.take("event", parcel(1)))
    lanes.add(ticket(2), [event(Identity(external_id="C2"))])
    group = lanes.take("event", parcel(2))
    assert [sequences(item) for item in group.items] == [[1], [2]]


def test_what_many_customers_share_does_not_move_all_that_waits_with_each() -> None:
    """The shorter queue goes into the longer, which stays where it is."""
    lanes = Lanes()
    for number in range(20):
        lanes.add(ticket(number), [event(Identity(external_id=f"C{number}"))])
    first = lanes._by_name["i:C0"]
    for number in range(20, 40):
        who = Identity(external_id=f"C{number - 20}", email="pos@shop.dev")
        lanes.add(ticket(number), [event(who)])
        assert lanes._by_name["e:pos@shop.dev"] is first, "it is never the shorter one"
    order = [item.sequence for item in first.items]
    assert order == list(range(40))


def test_the_rest_of_a_begun_record_is_kept_behind_older_work() -> None:
    """At a stop it ends as a whole, also if its lane was joined with another one."""
    lanes = Lanes()
    lanes.add(ticket(1), [profile(Identity(email="a@shop.dev"), title="Dr")])
    ada = Identity(external_id="C1")
    order = [event(ada, f"O-2:{n}") for n in range(3)]
    for each in order:
        each.profile = order[0].profile
        each.identity = ada
    lanes.add(begun := ticket(2), list(order))
    out = lanes.take("event", parcel(2))
    assert begun.begun
    both = Identity(external_id="C1", email="a@shop.dev")
    lanes.add(ticket(3), [event(both, "O-3")])
    lanes.finish()
    lanes.release(out)
    assert lanes.rows == 2, "the update before it, and its last event"
    lanes.release(lanes.take("profile", parcel(9)))
    (item,) = lanes.take("event", parcel(9)).items
    assert sequences(item) == [2]
    assert lanes.rows == 0
