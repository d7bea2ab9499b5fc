"""A bridge between Kafka and Klaviyo: nothing lost, in order, once, at the full quota."""
