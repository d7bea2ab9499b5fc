"""Figures of speed (contract 9), each beside a yard-stick measured in the same call."""
