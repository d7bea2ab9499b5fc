"""One file per event type; `schemas.registry` finds them."""
