"""Every setting, declared once: section, field, type, default and one sentence.

The README's table, the environment names and the suggestions for misspelt names are all
read from here. "Blank" is the empty string, or no value where the setting is a number.

    service.py  subscription, http, secrets, tracing, log
    klaviyo.py  klaviyo, throttle
    kafka.py    kafka, schema_registry, topics
    forward.py  events, profile, consent, deliver, deletes, audit
    reverse.py  reverse
"""
