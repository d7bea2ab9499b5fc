"""Consent and suppressions of one profile, as the attribute `subscriptions` shows.

A suppression overrides consent: a profile can receive e-mail while it has none and its
consent is not UNSUBSCRIBED. Source: the subscriptions schema of the official documents.
"""

from dataclasses import dataclass, field

from pipeline.sandbox.formats import stamp
from pipeline.sandbox.wire import Json

__all__ = ["CHANNELS", "Channel", "Consent"]

NEVER, SUBSCRIBED, UNSUBSCRIBED = "NEVER_SUBSCRIBED", "SUBSCRIBED", "UNSUBSCRIBED"

# Channels whose consent a job can change.
CHANNELS = (
    "email.marketing",
    "sms.marketing",
    "sms.transactional",
    "whatsapp.marketing",
    "whatsapp.transactional",
    "push.marketing",
)
# Suppressions that subscribing lifts.
_LIFTED = ("UNSUBSCRIBE", "SPAM_COMPLAINT", "USER_SUPPRESSED")


@dataclass(slots=True)
class Channel:
    """Consent on one channel; times are Unix seconds."""

    status: str = NEVER
    at: float | None = None
    updated: float | None = None
    method: str | None = None
    detail: str | None = None
    double_optin: bool | None = None


@dataclass(slots=True)
class Consent:
    """Consent per channel, and what suppresses e-mail."""

    channels: dict[str, Channel] = field(default_factory=dict)
    suppressions: dict[str, float] = field(default_factory=dict)  # reason: Unix seconds
    list_suppressions: dict[str, float] = field(default_factory=dict)  # list id: since

    def unsubscribed_after(self, channel: str, at: float) -> bool:
        """Tell whether the profile unsubscribed from the channel later than `at`."""
        found = self.channels.get(channel)
        return found is not None and found.status == UNSUBSCRIBED and at < (found.at or 0)

    def subscribe(
        self,
        channel: str,
        now: float,
        *,
        at: float | None = None,
        source: str | None = None,
    ) -> None:
        """Subscribe; `at` is when consent was given, `source` the custom source."""
        held = self.channels.get(channel)
        if held is not None and held.status == SUBSCRIBED and at is not None:
            # A historical import keeps the older timestamp of who is subscribed already.
            at = min(at, held.at or at)
        self.channels[channel] = Channel(
            SUBSCRIBED, now if at is None else at, now, "PRIVATE_API", source
        )
        if channel == "email.marketing":
            for reason in _LIFTED:
                self.suppressions.pop(reason, None)

    def unsubscribe(self, channel: str, now: float) -> None:
        """Unsubscribe; on e-mail this suppresses as well."""
        self.channels[channel] = Channel(UNSUBSCRIBED, now, now, "PRIVATE_API")
        if channel == "email.marketing":
            self.suppressions["UNSUBSCRIBE"] = now

    def document(self) -> Json:
        """Return the `subscriptions` attribute."""
        email = self.channels.get("email.marketing", Channel())
        can_email = not self.suppressions and email.status != UNSUBSCRIBED
        push = self.channels.get("push.marketing", Channel())
        return {
            "email": {
                "marketing": {
                    "can_receive_email_marketing": can_email,
                    **_times(email),
                    "method": email.method,
                    "method_detail": email.detail,
                    "custom_method_detail": email.detail,
                    "double_optin": email.double_optin,
                    "suppression": [
                        {"reason": reason, "timestamp": stamp(at)}
                        for reason, at in self.suppressions.items()
                    ],
                    "list_suppressions": [
                        {"list_id": name, "reason": "UNSUBSCRIBE", "timestamp": stamp(at)}
                        for name, at in self.list_suppressions.items()
                    ],
                }
            },
            "sms": {
                kind: {
                    f"can_receive_sms_{kind}": channel.status == SUBSCRIBED,
                    **_times(channel),
                    "method": channel.method,
                    "method_detail": channel.detail,
                }
                for kind in ("marketing", "transactional")
                for channel in [self.channels.get(f"sms.{kind}", Channel())]
            },
            "mobile_push": {
                "marketing": {
                    "can_receive_push_marketing": push.status == SUBSCRIBED,
                    "consent": push.status,
                    "consent_timestamp": None if push.at is None else stamp(push.at),
                }
            },
        }


def _times(channel: Channel) -> Json:
    return {
        "consent": channel.status,
        "consent_timestamp": None if channel.at is None else stamp(channel.at),
        "last_updated": None if channel.updated is None else stamp(channel.updated),
    }
