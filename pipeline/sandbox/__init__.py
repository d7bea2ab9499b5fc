"""A local Klaviyo, the second witness: it shares no code with the program it judges.

It enforces what Klaviyo documents (revisions, structure, limits, identity, events, bulk
jobs, consent), answers with its error documents, and keeps a ledger of what it was asked.

    async with Sandbox() as sandbox:
        ...  # send requests to sandbox.url
        assert not sandbox.ledger.violations

Read `account.py` for the order in which a call is served, `control.py` for the HTTP API
that shows and changes everything, `faults.py` for scripted faults.
"""

from pipeline.sandbox.clock import Clock, HeldClock
from pipeline.sandbox.faults import Action, Match, Rule
from pipeline.sandbox.server import Sandbox, serve
from pipeline.sandbox.settings import Settings

__all__ = [
    "Action",
    "Clock",
    "HeldClock",
    "Match",
    "Rule",
    "Sandbox",
    "Settings",
    "serve",
]
