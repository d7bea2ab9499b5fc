"""Brokers that tests run against."""
