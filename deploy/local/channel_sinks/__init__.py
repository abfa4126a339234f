"""The embedded channel sinks: a webhook, a mail server, a provider of SMS and one of WhatsApp messages.

`python -m deploy.local.channel_sinks --port P --smtp-port P --state-dir DIR` delivers nothing to anybody: it keeps what
it gets, and can be told to fail. It honours Idempotency-Key as a real provider does.
"""
