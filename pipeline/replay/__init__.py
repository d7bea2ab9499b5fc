"""Sends again what Kafka still holds: ranges, one customer's records, dead letters.

Everything goes the normal way, through `pipeline.forward.flow`; this package only says
which records, and keeps account of what was done. `job` joins the parts: read it first.
"""
