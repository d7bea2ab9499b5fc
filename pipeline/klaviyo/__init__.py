"""Everything that talks to Klaviyo, and nothing that knows Kafka.

client    one method per endpoint
session   the way of a call: retry -> limit -> metrics -> auth -> wire
limits    when the next call may go: windows, pace and gate per operation
retry     one table: what an answer or an exception means
halts     what happens when the credential is refused
auth      where the credential comes from
revision  which revision is asked for and which one is served
"""
