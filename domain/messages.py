"""The words of messages: templates with named places, filled with what is known to be harmless.

The places hold the tenant's own name and what the lead asked about in a fixed phrase; nothing that a lead wrote.
"""

from string import Template
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from domain.base import Model

TOPICS = {"lead_capture": "your request", "support": "your question", "info": "your enquiry"}
"""What a lead asked about, by its intent."""

PLACES = ("business", "topic")
"""What a template may name: `$business`, `$topic`."""


def _fillable(text: str) -> str:
    template = Template(text)
    if not template.is_valid():
        raise ValueError("a $ that names no place is written $$")
    if unknown := set(template.get_identifiers()) - set(PLACES):
        raise ValueError(f"there is no place ${min(unknown)}: name {' or '.join(f'${place}' for place in PLACES)}")
    return text


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600), AfterValidator(_fillable)]
"""A template of a message; 600 characters are four short messages."""

SUBJECT = "$business: $topic"

DEFAULT_TEXTS: tuple[Text, ...] = (
    "Thank you for $topic. When would it suit you to talk to $business? Just answer this message, or write STOP.",
    "$business would still like to help with $topic. Answer this message and we get back to you, or write STOP.",
)
"""For the first and second message of a lead; later ones take the last."""


class Words(Model):
    """What a message says."""

    subject: str
    """For channels that show one."""
    text: str


def write(texts: tuple[str, ...], number: int, business: str, intent: str) -> Words:
    """The words of a lead's message.

    Args:
        texts: templates, in order; a number beyond the last takes the last.
        number: of the message, from 1.
        business: the tenant's name as its customers know it.
        intent: of the lead; an unknown one is a request.
    """
    places = {"business": business, "topic": TOPICS.get(intent, "your request")}
    text = texts[min(number, len(texts)) - 1]
    return Words(subject=Template(SUBJECT).substitute(places), text=Template(text).substitute(places))
