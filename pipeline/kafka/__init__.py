"""The only part that talks to Kafka: reads, writes, looks at topics.

aiokafka stands behind it. What it does in an outage, in a rebalance and at a stop is not
always what one would expect; each such trap is named at the line that avoids it.
"""
