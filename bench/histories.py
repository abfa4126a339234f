"""Histories as text, to search them for what must not be there."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent


def payloads(messages: Iterable[Message]) -> Iterator[Payload]:
    """Every payload of a history's events, or of other messages of Temporal's API, wherever it stands."""
    for message in messages:
        yield from _payloads(message)


def _payloads(message: Any) -> Iterator[Payload]:
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = value.values() if field.message_type.fields_by_name["value"].message_type else ()
        else:
            values = value if field.is_repeated else (value,)
        for one in values:
            yield from _payloads(one)


def readable(events: Iterable[HistoryEvent]) -> str:
    """All of a history as text: the events as JSON, then the bytes of every payload."""
    events = list(events)
    told = [json.dumps(MessageToDict(event)) for event in events]
    return "\n".join([*told, *(payload.data.decode("utf-8", "replace") for payload in payloads(events))])
