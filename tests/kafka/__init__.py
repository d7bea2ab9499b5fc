"""Our Kafka clients against brokers."""
