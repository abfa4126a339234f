"""Channels: how a message gets to a person, each behind the same small interface, and the step that sends follow-ups.

What a provider answers never becomes part of a reason: it may repeat an address, and reasons enter histories.
"""

import asyncio
import contextlib
import json
import smtplib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx
from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from activities.fetch import public_transport
from db import follow_ups, step_results
from db.follow_ups import UNDER_WAY, Addressee, MessageRow
from db.pool import Connection, Pool
from db.rate_limits import LimitReached
from domain import errors, steps
from domain.canonical import sha256_hex
from domain.follow_up import Channel, Ending, SendRequest, SendResult, closes, retry_after
from domain.messages import Words, write
from domain.text import clean, cut

SECONDS = 10.0
"""For a provider's whole answer; of a mail server, for each of its answers."""

_ON_ITS_WAY = timedelta(minutes=2)
"""Longer than one try of the step may take: after it an earlier one is dead."""

_NOT_HANDLED = {425, 429, 503}
"""Statuses that say that nothing was done (RFC 9110, 6585, 8470)."""

_ANSWER_BYTES = 65_536
_LONGEST_WAIT = timedelta(hours=1)
"""A provider cannot put a message off for longer than this by its Retry-After."""


@dataclass(frozen=True)
class Message:
    """What is to be delivered. `key` is the same at every try, so that a provider delivers it once."""

    key: str
    to: str
    words: Words
    lead_id: str


class NotTakenError(Exception):
    """The provider did not take a message, so it is tried again; the message of the error is a clause.

    Args:
        why: a clause without personal data.
        certain: False when the answer alone may have been lost.
        after: how long the provider wants to be left alone.
    """

    def __init__(self, why: str, *, certain: bool = True, after: timedelta | None = None) -> None:
        super().__init__(why)
        self.certain, self.after = certain, after


class RefusedError(Exception):
    """The provider refuses the message for good."""


class UnconfirmedError(Exception):
    """Nobody knows whether the message was taken, and asking again could deliver it twice."""


class Sender(Protocol):
    """One channel."""

    repeatable: bool
    """Whether the same key delivers once however often it is sent."""

    async def send(self, message: Message) -> str:
        """Give a message to the provider; returns the provider's own id for it.

        Raises:
            NotTakenError, RefusedError, UnconfirmedError.
        """
        ...


class Webhook:
    """POSTs a message to the address that the tenant named, which must keep the same Idempotency-Key apart.

    Args:
        client: goes to public addresses only.
        stand_in: takes every message instead of the tenants' addresses (the embedded stack).
    """

    repeatable = True

    def __init__(self, client: httpx.AsyncClient, stand_in: str | None) -> None:
        self._client, self._stand_in = client, stand_in

    async def send(self, message: Message) -> str:
        """Deliver one message."""
        body = {"lead_id": message.lead_id, "subject": message.words.subject, "text": message.words.text}
        headers = {} if self._stand_in is None else {"X-Clotho-Webhook": message.to}
        return await _post(self._client, self._stand_in or message.to, body, message.key, headers)


class Gateway:
    """POSTs a message to a provider of SMS or WhatsApp messages: JSON with `to` and `text`, a bearer key.

    The provider must honour Idempotency-Key.

    Args:
        client: for any address.
        url: SMS_API_URL or WHATSAPP_API_URL; None: the channel is not set up.
        key: its secret.
        setting: name of the first of the two.
    """

    repeatable = True

    def __init__(self, client: httpx.AsyncClient, url: str | None, key: str | None, setting: str) -> None:
        self._client, self._url, self._key, self._setting = client, url, key, setting

    async def send(self, message: Message) -> str:
        """Deliver one message."""
        if self._url is None:
            raise NotTakenError(f"{self._setting} is not set")
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return await _post(
            self._client, self._url, {"to": message.to, "text": message.words.text}, message.key, headers
        )


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, str], key: str, headers: dict[str, str]) -> str:
    try:
        async with (
            asyncio.timeout(SECONDS),
            client.stream("POST", url, json=body, headers={**headers, "Idempotency-Key": key}) as response,
        ):
            status, after = response.status_code, response.headers.get("Retry-After", "")
            answer = b""
            async for part in response.aiter_bytes():
                answer += part
                if len(answer) > _ANSWER_BYTES:
                    break
    except ApplicationError as error:  # the address was looked at before anything was sent
        if error.type == errors.SOURCE_REFUSED.type:
            raise RefusedError("the webhook's host is not a public one") from error
        raise NotTakenError("the webhook's host has no address") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotTakenError("the provider cannot be reached") from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise NotTakenError(f"the provider gave no answer ({type(error).__name__})", certain=False) from error
    if 200 <= status < 300:
        return _id_in(answer)
    if status in {408, 425, 429} or status >= 500:
        wait = min(timedelta(seconds=int(after)), _LONGEST_WAIT) if after.isdecimal() else None
        raise NotTakenError(f"the provider answered {status}", certain=status in _NOT_HANDLED, after=wait)
    raise RefusedError(f"the provider answered {status}")


def _id_in(answer: bytes) -> str:
    """The `id` of a provider's answer, which need not have one."""
    try:
        found = json.loads(answer)
    except ValueError:
        return ""
    known = found.get("id") if isinstance(found, dict) else None
    return cut(clean(str(known)), 200) if isinstance(known, str | int) else ""


class Email:
    """Hands a message to a mail server.

    Mail servers know no idempotency key, so a message whose acceptance was not heard of is not sent again.

    Args:
        url: SMTP_URL, `smtp://user:password@host:port` (STARTTLS where the server offers it) or `smtps://…`; None: the
            channel is not set up.
        sender: EMAIL_FROM.
    """

    repeatable = False

    def __init__(self, url: str | None, sender: str) -> None:
        self._url, self._sender = url, sender

    async def send(self, message: Message) -> str:
        """Deliver one message."""
        if self._url is None:
            raise NotTakenError("SMTP_URL is not set")
        return await asyncio.to_thread(self._send, self._url, message)

    def _send(self, url: str, message: Message) -> str:
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = self._sender, message.to, message.words.subject
        letter["Message-ID"] = f"<{message.key}@{self._sender.rpartition('@')[2] or 'clotho'}>"
        letter["Date"] = format_datetime(datetime.now(UTC))
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.words.text)
        try:
            server = self._greet(url)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTakenError(f"the mail server cannot be used ({type(error).__name__})") from error
        try:
            self._hand_over(server, message.to, letter.as_bytes())
        finally:
            with contextlib.suppress(OSError, smtplib.SMTPException):  # what it took it keeps
                server.quit()
        return str(letter["Message-ID"])

    def _hand_over(self, server: smtplib.SMTP, to: str, letter: bytes) -> None:
        try:
            for code, _ in (server.mail(self._sender), server.rcpt(to)):
                _accepted(code)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTakenError(f"the mail server broke off ({type(error).__name__})") from error
        try:
            code, _ = server.data(letter)
        except smtplib.SMTPDataError as error:  # it does not want to hear the letter
            code = error.smtp_code
        except (OSError, smtplib.SMTPException) as error:
            raise UnconfirmedError("the mail server did not say whether it took the message") from error
        _accepted(code)

    def _greet(self, url: str) -> smtplib.SMTP:
        parts = urlsplit(url)
        host, context = parts.hostname or "", ssl.create_default_context()
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, parts.port or 587, timeout=SECONDS)
        try:
            server.ehlo()
            if parts.scheme != "smtps" and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
        except BaseException:
            server.close()
            raise
        return server


def _accepted(code: int) -> None:
    if code >= 500:
        raise RefusedError(f"the mail server answered {code}")
    if code >= 400:
        raise NotTakenError(f"the mail server answered {code}")


Account = tuple[str | None, str | None]
"""A provider's URL and its secret key; no URL: the channel is not set up."""


@contextlib.asynccontextmanager
async def senders(
    *, smtp_url: str | None, email_from: str, sms: Account, whatsapp: Account, webhook_stand_in: str | None
) -> AsyncIterator[dict[Channel, Sender]]:
    """All channels, for as long as the block runs."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as direct,
        httpx.AsyncClient(transport=public_transport(), timeout=SECONDS) as public,
    ):
        yield {
            Channel.WEBHOOK: Webhook(public if webhook_stand_in is None else direct, webhook_stand_in),
            Channel.EMAIL: Email(smtp_url, email_from),
            Channel.SMS: Gateway(direct, *sms, "SMS_API_URL"),
            Channel.WHATSAPP: Gateway(direct, *whatsapp, "WHATSAPP_API_URL"),
        }


class FollowUpSteps:
    """The step of the role channels."""

    def __init__(self, pool: Pool, senders: Mapping[Channel, Sender]) -> None:
        self._pool, self._senders = pool, senders

    @implements(steps.SEND_FOLLOW_UP)
    async def send_follow_up(self, request: SendRequest) -> SendResult:
        """Send one message to a lead, or say when it is to be tried again.

        Idempotent because: there is one row for each lead and number in follow_ups, which is locked, marked as on its
        way before the message goes out and ended with the step's result; the provider gets the same key at every try.
        A mail that may be on its way is not sent again.
        """
        done = await step_results.stored(self._pool, steps.SEND_FOLLOW_UP, _key(request))
        if done is not None:
            return done
        now = max(datetime.now(UTC), request.at)
        who = await follow_ups.addressee(self._pool, request.lead_id)
        if who is None:
            return SendResult(status="failed", reason="There is no such lead.")
        row = await follow_ups.find(self._pool, request.lead_id, request.number)
        if (known := _at_once(request, who, row, now)) is not None:
            return known if known.status == "waits" else await self._end(request, known.status, known.reason)
        assert who.channel is not None, "_at_once has looked"
        sender = self._senders[who.channel]
        begun = await self._begin(request, who, who.channel, sender, now)
        if isinstance(begun, SendResult):
            return begun if begun.status == "waits" else await self._end(request, begun.status, begun.reason)
        message = Message(
            key=sha256_hex(f"follow-up\n{request.lead_id}\n{request.number}".encode())[:40],
            to=who.address,
            words=write(who.tenant.texts, request.number, who.tenant.business, who.intent),
            lead_id=request.lead_id,
        )
        try:
            async with heartbeating():
                provider_id = await sender.send(message)
        except RefusedError as error:
            return await self._end(request, "failed", _sentence(error))
        except UnconfirmedError as error:
            return await self._end(request, "unconfirmed", _sentence(error))
        except NotTakenError as error:
            if error.certain:
                await follow_ups.not_taken(self._pool, request.lead_id, request.number, _sentence(error))
            again = now + max(retry_after(begun.tries + 1), error.after or timedelta(0))
            return SendResult(status="waits", again=again, reason=_sentence(error))
        return await self._end(request, "sent", "", provider_id)

    async def _begin(
        self, request: SendRequest, who: Addressee, channel: Channel, sender: Sender, now: datetime
    ) -> SendResult | MessageRow:
        """Mark a message as on its way; returns its row before that, or why it does not go."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                row = await follow_ups.lock(connection, request.lead_id, request.number, request.due)
                if row.state not in UNDER_WAY:
                    return SendResult.model_validate({"status": row.state, "reason": row.reason or ""})
                if row.state == "sending" and not (sender.repeatable and row.channel is channel):
                    why, dead = "An earlier try may have delivered it.", row.updated_at + _ON_ITS_WAY
                    if now < dead:
                        return SendResult(status="waits", again=dead, reason=why)
                    return SendResult(status="unconfirmed", reason=why)
                if row.tries == 0:
                    await follow_ups.count_use(connection, who.tenant.tenant, who.tenant.limits)
                await follow_ups.on_its_way(connection, request.lead_id, request.number, channel)
        except LimitReached as reached:
            why = f"The tenant has sent {reached.limit} in a {reached.period}."
            return SendResult(status="waits", again=now + (reached.again - reached.now), reason=why)
        return row

    async def _end(
        self, request: SendRequest, ending: Ending, reason: str, provider_id: str | None = None
    ) -> SendResult:
        result = SendResult(status=ending, reason=reason)

        async def effect(connection: Connection) -> None:
            row = await follow_ups.lock(connection, request.lead_id, request.number, request.due)
            if row.state in UNDER_WAY:
                await follow_ups.end(connection, request.lead_id, request.number, ending, reason, provider_id)

        return await step_results.commit_once(self._pool, steps.SEND_FOLLOW_UP, _key(request), result, effect)


def _at_once(request: SendRequest, who: Addressee, row: MessageRow | None, now: datetime) -> SendResult | None:
    """What is known before anything is tried; None when the message may go."""
    quiet, zone = who.tenant.quiet, who.tenant.zone
    if who.outcome is not None:
        return SendResult(status="stopped", reason=f"The lead is {who.outcome}.")
    if who.channel is None:
        return SendResult(status="failed", reason="The lead has no contact and its tenant no webhook.")
    if now >= closes(request.due, quiet, zone):
        # What may have been delivered at an earlier try was not simply missed.
        status: Ending = "unconfirmed" if row is not None and row.state == "sending" else "missed"
        return SendResult(status=status, reason=f"Its window is over. {row.reason or '' if row else ''}".strip()[:300])
    again = quiet.over(now, zone)
    return SendResult(status="waits", again=again, reason="It is quiet hours.") if again > now else None


def _key(request: SendRequest) -> str:
    return f"{request.number} {request.lead_id}"


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
