"""Figures of speed, each beside a yard-stick measured in the same call."""
