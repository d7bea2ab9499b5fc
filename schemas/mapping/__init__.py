"""Other people's messages as our events, by expressions a user writes.

functions.py    what expressions may call beside JMESPath's own functions
expression.py   one JMESPath expression, compiled and checked at start
targets.py      which fields a target type has, and the nearest one to a misspelt name
mapping.py      one mapping: which messages it takes, and what it makes of them
declared.py     the tables a user wrote, as mappings or as faults with their place
"""

from schemas.mapping.declared import Fault, read
from schemas.mapping.mapping import NO_MAPPINGS, Mapped, Mapping, Mappings

__all__ = ["NO_MAPPINGS", "Fault", "Mapped", "Mapping", "Mappings", "read"]
