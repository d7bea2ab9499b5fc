"""Customers whose profiles were merged stay one person."""

from pipeline.forward.links import LIMIT, Links
from schemas.commands import Command, Identity, UpsertProfile
from schemas.event import Plan


def who(links: Links, name: str | None) -> str | None:
    command: Command = UpsertProfile(Identity(name, "ada@shop.dev"), {}, {})
    plan = links.admitted(Plan([command]))
    assert plan.commands[0].identity.email == "ada@shop.dev"
    return plan.commands[0].identity.external_id


def test_a_merged_customer_is_the_other_from_then_on() -> None:
    links = Links()
    assert who(links, "C-2") == "C-2"
    kept = links.learn("C-2", "C-1")
    again = Links()
    again.load({key: value for key, value in kept.items() if value is not None})
    for each in (links, again):
        assert who(each, "C-2") == "C-1"
        assert who(each, "C-1") == "C-1"
        assert who(each, "C-3") == "C-3"
        assert who(each, None) is None


def test_what_is_merged_again_is_followed() -> None:
    links = Links()
    links.learn("C-3", "C-2")
    assert links.learn("C-2", "C-1") == {"C-2": b"C-1", "C-3": b"C-1"}
    assert {who(links, f"C-{n}") for n in (1, 2, 3)} == {"C-1"}


def test_nobody_runs_in_a_circle() -> None:
    """A link back is the newer word."""
    links = Links()
    links.learn("C-2", "C-1")
    assert links.learn("C-1", "C-2") == {"C-1": b"C-2", "C-2": None}
    assert who(links, "C-1") == who(links, "C-2") == "C-2"


def test_all_commands_of_a_record_go_to_the_same_person() -> None:
    links = Links()
    links.learn("C-2", "C-1")
    commands: list[Command] = [UpsertProfile(Identity("C-2"), {}, {}) for _ in range(2)]
    plan = links.admitted(Plan(commands))
    assert plan.commands[0].identity is plan.commands[1].identity


def test_memory_is_bounded() -> None:
    links = Links()
    links.load({f"C-{n}": b"C" for n in range(LIMIT + 2)})
    assert who(links, "C-1") == "C-1", "the oldest are forgotten"
    assert who(links, "C-2") == "C"


def test_the_links_of_an_erased_customer_can_be_found_and_dropped() -> None:
    links = Links()
    links.learn("C-2", "C-1")
    links.learn("C-4", "C-3")
    assert links.became("C-1") == ["C-2"]
    assert links.forget(["C-1", "C-2"]) == {"C-2": None}
    assert (who(links, "C-2"), who(links, "C-4")) == ("C-2", "C-3")
