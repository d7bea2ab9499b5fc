"""Consent and lists against the sandbox, which is the second witness, in virtual time."""
