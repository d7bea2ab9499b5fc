"""All profiles of the account: who an identifier belongs to, and what a write may do.

Identity resolution goes id > external_id > email > phone_number. What happens when one
payload's identifiers belong to two profiles is not documented for every way in, so it
is a setting: "conflict" refuses the write, "merge" merges the weaker profile into the
stronger.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.sandbox.ids import Ids
from pipeline.sandbox.profile import (
    IDENTIFIERS,
    Profile,
    apply_attributes,
    apply_patch,
)
from pipeline.sandbox.wire import Json, Problem, Refused, not_found

__all__ = ["Conflict", "Profiles", "Written", "duplicate", "folded", "identifiers_of"]

_MAX_EMAILS = 5  # of one profile; Klaviyo, "Multi Email Profiles"


def folded(kind: str, value: str) -> str:
    """Return an identifier as it is compared: e-mail without regard to case."""
    return value.lower() if kind == "email" else value


def identifiers_of(attributes: Mapping[str, object]) -> dict[str, str]:
    """Return the identifiers among `attributes` that are set, strongest first."""
    return {
        kind: value
        for kind in IDENTIFIERS
        if isinstance(value := attributes.get(kind), str) and value
    }


def duplicate(other: str) -> Refused:
    """Return the 409 that names the profile which holds the identifier."""
    problem = Problem(
        "A profile already exists with one of these identifiers.",
        "/data/attributes",
        code="duplicate_profile",
        title="Conflict.",
        meta={"duplicate_profile_id": other},
    )
    return Refused(409, [problem])


class Conflict(Exception):
    """The identifiers of one payload belong to two profiles."""

    def __init__(self, target: Profile, other: Profile) -> None:
        """Name the stronger profile and the one it clashes with."""
        super().__init__(target.id, other.id)
        self.target = target
        self.other = other


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of an upsert."""

    profile: Profile
    created: bool


class Profiles:
    """The profiles, by id and by every identifier."""

    def __init__(
        self,
        ids: Ids,
        on_merge: Callable[[str, str], None],
        on_touch: Callable[[Profile], None],
    ) -> None:
        """`on_merge(source, target)` moves what belongs to a merged or deleted profile.

        For a deletion `target` is the empty string. `on_touch` lists what has changed.
        """
        self._ids = ids
        self._on_merge = on_merge
        self._on_touch = on_touch
        self.by_id: dict[str, Profile] = {}
        self._owner: dict[tuple[str, str], str] = {}
        self.version = 0  # grows with every change; listings cache by it

    def owner(self, kind: str, value: str) -> Profile | None:
        """Return the profile that holds an identifier; `kind` may be "id"."""
        if kind == "id":
            return self.by_id.get(value)
        found = self._owner.get((kind, folded(kind, value)))
        return None if found is None else self.by_id[found]

    def resolve(self, identifiers: Mapping[str, str]) -> list[Profile]:
        """Return the profiles that hold the identifiers, strongest first, each once."""
        found: dict[str, Profile] = {}
        for kind in ("id", *IDENTIFIERS):
            if kind in identifiers and (held := self.owner(kind, identifiers[kind])):
                found.setdefault(held.id, held)
        return list(found.values())

    def create(self, attributes: Json, now: float) -> Profile:
        """Create a profile; raise the 409 of `duplicate` if an identifier is taken."""
        found = self.resolve(identifiers_of(attributes))
        if found:
            raise duplicate(found[0].id)
        return self._new(attributes, now)

    def _new(self, attributes: Json, now: float) -> Profile:
        second = int(now)
        profile = Profile(self._ids.ulid(), second, second)
        self.by_id[profile.id] = profile
        self._identify(profile, attributes, clears=True)
        apply_attributes(profile, attributes, clears=True)
        self._on_touch(profile)
        self.version += 1
        return profile

    def update(
        self, identifier: str, attributes: Json, meta: Json | None, now: float
    ) -> Profile:
        """Change a profile by id: 404 if unknown, 409 if an identifier is taken."""
        profile = self.by_id.get(identifier)
        if profile is None:
            raise not_found(f"A profile with id {identifier} does not exist.")
        for other in self.resolve(identifiers_of(attributes)):
            if other is not profile:
                raise duplicate(other.id)
        self.write(profile, attributes, meta, now, clears=True)
        return profile

    def upsert(
        self,
        attributes: Json,
        *,
        identifier: str | None,
        meta: Json | None,
        now: float,
        merges: bool,
        clears: bool,
    ) -> Written:
        """Create or change the profile that the identifiers name.

        `identifier` is the profile id. Raises the 404 of an unknown id, and `Conflict`
        when the identifiers belong to two profiles and `merges` is false.
        """
        if identifier and identifier not in self.by_id:
            raise not_found(f"A profile with id {identifier} does not exist.")
        named = identifiers_of(attributes)
        if identifier:
            named["id"] = identifier
        found = self.resolve(named)
        if not found:
            profile = self._new(attributes, now)
            self.write(profile, {}, meta, now, clears=clears)
            return Written(profile, created=True)
        target, *others = found
        for other in others:
            if not merges:
                raise Conflict(target, other)
            self.merge(other, target, now)
        self.write(target, attributes, meta, now, clears=clears)
        return Written(target, created=False)

    def write(
        self,
        profile: Profile,
        attributes: Json,
        meta: Json | None,
        now: float,
        *,
        clears: bool,
    ) -> None:
        """Apply a write; `updated` moves when something changed."""
        changed = self._identify(profile, attributes, clears=clears)
        changed |= apply_attributes(profile, attributes, clears=clears)
        changed |= apply_patch(profile, (meta or {}).get("patch_properties"))
        changed |= self._patch_emails(
            profile, (meta or {}).get("patch_identifiers") or {}
        )
        if changed:
            self.touch(profile, now)

    def touch(self, profile: Profile, now: float) -> None:
        """Move `updated`; its grain is one second."""
        profile.updated = max(profile.updated, int(now))
        self._on_touch(profile)
        self.version += 1

    def _identify(self, profile: Profile, attributes: Json, *, clears: bool) -> bool:
        changed = False
        for kind in IDENTIFIERS:
            if kind not in attributes:
                continue
            value = attributes[kind]
            held = profile.identifiers.get(kind)
            if value == held or (value is None and not clears):
                continue
            if held is not None:
                self._owner.pop((kind, folded(kind, held)), None)
                del profile.identifiers[kind]
                changed = True
            if value:
                if kind == "email" and value in profile.secondary_emails:
                    profile.secondary_emails.remove(value)
                profile.identifiers[kind] = value
                self._owner[kind, folded(kind, value)] = profile.id
                changed = True
        return changed

    def _patch_emails(self, profile: Profile, patch: Json) -> bool:
        """Add and remove secondary e-mail addresses; the oldest goes when there are 6."""
        before = list(profile.secondary_emails)
        for email in _listed((patch.get("append") or {}).get("email")):
            if self.owner("email", email) is None:
                profile.secondary_emails.append(email)
                self._owner["email", folded("email", email)] = profile.id
        for email in _listed((patch.get("unappend") or {}).get("email")):
            if email in profile.secondary_emails:
                self._drop_secondary(profile, email)
        while len(profile.secondary_emails) >= _MAX_EMAILS:
            self._drop_secondary(profile, profile.secondary_emails[0])
        return profile.secondary_emails != before

    def _drop_secondary(self, profile: Profile, email: str) -> None:
        profile.secondary_emails.remove(email)
        self._owner.pop(("email", folded("email", email)), None)

    def merge(self, source: Profile, target: Profile, now: float) -> None:
        """Merge `source` into `target` and delete it; what the target has wins."""
        self.delete(source, into=target.id)
        for kind, value in source.identifiers.items():
            if kind not in target.identifiers:
                self._identify(target, {kind: value}, clears=False)
            elif kind == "email":
                self._patch_emails(target, {"append": {"email": [value]}})
        target.fields = {**source.fields, **target.fields}
        target.location = {**source.location, **target.location}
        target.properties = {**source.properties, **target.properties}
        for channel, state in source.consent.channels.items():
            target.consent.channels.setdefault(channel, state)
        for reason, since in source.consent.suppressions.items():
            target.consent.suppressions.setdefault(reason, since)
        last = [t for t in (source.last_event, target.last_event) if t is not None]
        target.last_event = max(last, default=None)
        target.created = min(target.created, source.created)
        self.touch(target, now)

    def delete(self, profile: Profile, into: str = "") -> None:
        """Remove a profile; `into` is the one it was merged into."""
        del self.by_id[profile.id]
        held = [*profile.identifiers.items()]
        held += [("email", email) for email in profile.secondary_emails]
        for kind, value in held:
            self._owner.pop((kind, folded(kind, value)), None)
        self._on_merge(profile.id, into)
        self.version += 1

    def __iter__(self) -> Iterator[Profile]:
        """Yield the profiles in the order of their creation."""
        return iter(self.by_id.values())


def _listed(value: object) -> list[str]:
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]
