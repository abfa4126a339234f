"""The embedded scripted LLM server: it speaks the OpenAI API, and it is a script and no model.

It stands in where no key is set, so that the whole system runs on one machine, without cost, the same way every time.
It answers Clotho's own prompts (market_generation, validation, resolution) by parsing what the messages hold; it knows
no question, no outcome and nothing of the world. What it cannot parse it refuses or leaves unknown. It says what it is
at its start, in `/v1/models`, and in the `system_fingerprint` of every answer.
"""
