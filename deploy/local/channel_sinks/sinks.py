"""What the sinks keep, how they are told to fail, and the two servers in front of them."""

import asyncio
import email
import email.policy
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import Field, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.base import Model

Sink = Literal["webhook", "email", "sms", "whatsapp"]
SINKS: tuple[Sink, ...] = ("webhook", "email", "sms", "whatsapp")


class Delivery(Model):
    """One message that a sink took."""

    id: str
    sink: Sink
    key: str
    """The Idempotency-Key, or of a mail the Message-ID."""
    to: str
    subject: str
    text: str


class Fault(Model):
    """How a sink fails, for the next `count` messages (None: until it is told otherwise)."""

    sink: Sink
    kind: Literal["down", "refuse", "lost_reply"]
    """`down`: answers that it cannot; `refuse`: that it never will; `lost_reply`: takes it, does not say so."""
    count: Annotated[int, Field(ge=1)] | None = None


class Sinks:
    """Deliveries, kept in a file over restarts; faults, which end with the process.

    Args:
        file: one delivery a line.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        self.deliveries = [Delivery.model_validate_json(line) for line in lines]
        self._faults: dict[Sink, Fault] = {}
        self.tries: dict[Sink, int] = dict.fromkeys(SINKS, 0)
        """Messages offered, taken or not."""

    def fail(self, fault: Fault) -> None:
        """Put a fault in force, instead of the sink's earlier one."""
        self._faults[fault.sink] = fault

    def mend(self) -> None:
        """End all faults."""
        self._faults.clear()

    def fault_now(self, sink: Sink) -> str | None:
        """The fault of the message that is being offered, which uses it up."""
        self.tries[sink] += 1
        fault = self._faults.get(sink)
        if fault is None:
            return None
        if fault.count is not None:
            left = fault.count - 1
            if left:
                self._faults[sink] = fault.model_copy(update={"count": left})
            else:
                del self._faults[sink]
        return fault.kind

    def take(self, sink: Sink, key: str, to: str, subject: str, text: str, *, once: bool) -> Delivery:
        """Deliver a message; with `once` a key that was taken before gives the first delivery."""
        earlier = next((one for one in self.deliveries if one.sink == sink and one.key == key), None) if once else None
        if earlier is not None:
            return earlier
        name = hashlib.sha256(f"{sink} {key} {len(self.deliveries)}".encode()).hexdigest()[:20]
        made = Delivery(id=name, sink=sink, key=key, to=to, subject=subject, text=text)
        self.deliveries.append(made)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(made.model_dump_json() + "\n")
        return made


class MailServer:
    """Handler of an SMTP server."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:
        """Take one mail; a mail server has no idempotency key, so whatever comes is delivered."""
        fault = self._sinks.fault_now("email")
        if fault == "down":
            return "451 fails by request"
        if fault == "refuse":
            return "550 refuses by request"
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        mail = email.message_from_bytes(content, policy=email.policy.default)
        body = mail.get_body(("plain",))
        text = str(body.get_content()).strip() if body is not None else ""
        key, subject = str(mail["Message-ID"]), str(mail["Subject"])
        for to in envelope.rcpt_tos:
            self._sinks.take("email", key, to, subject, text, once=False)
        if fault == "lost_reply":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 taken"


def app(sinks: Sinks) -> Starlette:
    """The HTTP side: POST /webhook, /sms and /whatsapp; /_sinks/… to look and to make them fail."""

    async def post(request: Request) -> Response:
        sink: Sink = TypeAdapter(Sink).validate_python(request.path_params["sink"])
        fault = sinks.fault_now(sink)
        if fault == "down":
            return JSONResponse({"error": "fails by request"}, 503)
        if fault == "refuse":
            return JSONResponse({"error": "refuses by request"}, 403)
        try:
            body: dict[str, Any] = await request.json()
            to = request.headers["X-Clotho-Webhook"] if sink == "webhook" else body["to"]
            taken = sinks.take(
                sink, request.headers["Idempotency-Key"], to, body.get("subject", ""), body["text"], once=True
            )
        except (KeyError, json.JSONDecodeError) as error:
            return JSONResponse({"error": f"bad request ({error!r})"}, 400)
        if fault == "lost_reply":
            return JSONResponse({"error": "takes the message and does not say so"}, 504)
        return JSONResponse({"id": taken.id})

    async def deliveries(_: Request) -> Response:
        return JSONResponse([one.model_dump() for one in sinks.deliveries])

    async def tries(_: Request) -> Response:
        return JSONResponse(sinks.tries)

    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            sinks.mend()
        else:
            sinks.fail(Fault.model_validate_json(await request.body()))
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/_sinks/deliveries", deliveries),
            Route("/_sinks/tries", tries),
            Route("/_sinks/faults", faults, methods=["POST", "DELETE"]),
            Route("/{sink:str}", post, methods=["POST"]),
        ]
    )
