"""From Kafka to Klaviyo. `flow` joins the stages: read it first."""
