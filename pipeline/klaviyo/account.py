"""Which account a subscription delivers to, remembered beside what else outlives us.

A key of another account, put in place by mistake, would send one shop's customers to
another and publish all of them as deleted. So the account of the first credential is
kept, and another one is refused unless it is meant.
"""

from typing import Final

from pipeline.errors import PipelineError
from pipeline.klaviyo.tokens import Store

__all__ = ["AnotherAccount", "Belongs"]

_ID: Final = "id"


class AnotherAccount(PipelineError):
    """The credential is of another account than before; nothing was changed."""


class Belongs:
    """The account in the store; the same for all replicas."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def to(self, account: str, name: str = "", *, replace: bool = False) -> None:
        """Make sure that it is this one; remember it if it is the first, or to replace.

        Raises `AnotherAccount` and what the store raises.
        """
        known = await self.check(account, name, replace=replace)
        if known != account:
            await self._store.put(_ID, account.encode())

    async def check(self, account: str, name: str = "", *, replace: bool = False) -> str:
        """Give the account known, blank if none is; raises as `to`."""
        known = (await self._store.load()).get(_ID, b"").decode()
        if known and known != account and not replace:
            shown = f"{name} ({account})" if name else account
            raise AnotherAccount(
                f"The credential is of account {shown}, but {known} is the one this "
                "subscription delivers to, and its customers and orders would go to the "
                "other. Log in to the right account; or, if the other is meant: "
                "klaviyo-pipeline login --replace (on the page: the tick)."
            )
        return known
