"""From Klaviyo to Kafka: poll, compare, publish, remember; read `flow.py` first."""
