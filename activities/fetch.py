"""Fetching sources: HTTPS, public addresses, no redirects, bounded in time and size.

What a URL names is chosen by strangers, so a fetch trusts nothing about it: the host's addresses are all checked, the
connection goes to a checked address (no second look-up that could answer differently), and what comes back is counted
while it is read. Bytes are returned as they are: HTML and JSON are data, never instructions.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Self

import httpcore
import httpx
from AntiSSRF import IPAddressRanges
from temporalio.exceptions import ApplicationError

from domain.canonical import sha256_hex
from domain.errors import SOURCE_REFUSED, SOURCE_UNREACHABLE, failure
from domain.source_urls import check_url

USER_AGENT = "Clotho/0.1 (prediction-market resolver; reads only sources named in published rules)"
"""The one name under which Clotho visits every source."""

RETRY_AFTER_LIMIT = timedelta(hours=1)
"""A source cannot put a step off for longer than this by its Retry-After."""

MEDIA_TYPES = (
    "text/html",
    "application/xhtml+xml",
    "application/json",
    "application/xml",
    "text/xml",
    "application/rss+xml",
    "application/atom+xml",
    "text/csv",
    "text/plain",
)
"""What is asked for. Other `application/…+json` and `…+xml` types (GeoJSON, SDMX) are read as well."""

_MEDIA_TYPE = re.compile(rf"{'|'.join(re.escape(known) for known in MEDIA_TYPES)}|application/[a-z0-9.-]+\+(json|xml)")

_DENIED = tuple(ipaddress.ip_network(block) for block in IPAddressRanges.recommended_latest)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")

# A third of a fetch's time, so that a dead address leaves time for the host's next one.
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Limits:
    """Bounds of one fetch (source: the security section of the operations specification)."""

    seconds: float = 10.0
    """From the look-up of the host to the last byte."""
    reachable_seconds: float = 5.0
    """The same for each request of `reachable`, which reads no body."""
    body_bytes: int = 5_000_000
    """Of the body as received and as decompressed."""

    redirects: int = 5
    """Followed for a feed; a source may not redirect at all."""


@dataclass(frozen=True)
class Fetched:
    """One document as it was answered; `sha256` is of `body`, which is decompressed."""

    url: str
    status: int
    content_type: str
    body: bytes
    sha256: str
    fetched_at: datetime


@dataclass(frozen=True)
class FeedDocument:
    """A feed as it was answered; `etag` and `last_modified` ask next time whether it has changed since."""

    url: str
    """Where it was, after redirects."""
    content_type: str
    body: bytes
    etag: str | None
    last_modified: str | None


def is_public(address: str) -> bool:
    """Whether an IP address is an ordinary one of the public Internet.

    Refused are the deny list of `microsoft-antissrf`, what Python's registry knows as not global, and every IPv6
    address outside global unicast (2000::/3): IPv4-mapped, -compatible and NAT64 forms lie there. 6to4 and Teredo lie
    inside it and are on the list. All forms that carry an IPv4 address are refused whatever address they carry.
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in block for block in _DENIED)


async def _public_addresses(host: str) -> list[str]:
    """Every address that DNS gives for the host; one that is not public refuses them all."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise failure(SOURCE_UNREACHABLE, f"the host {host} has no address: {error.strerror or error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise failure(SOURCE_REFUSED, f"the host {host} leads to {address}, which is not a public address")
    return addresses


class _PinnedTransport(httpx.AsyncHTTPTransport):
    """Connects to the address that was checked, while SNI, certificate check and Host keep the URL's host name.

    Proxies are not known here, whatever the environment says.
    """

    def __init__(self, connect_to: tuple[str, int] | None, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._connect_to = connect_to

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._connect_to:
            return await self._send(request, *self._connect_to)
        *others, last = await _public_addresses(request.url.raw_host.decode("ascii"))
        for address in others:
            try:
                return await self._send(request, address, seconds=_CONNECT_SECONDS)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(request, last)

    async def _send(
        self, request: httpx.Request, address: str, port: int | None = None, *, seconds: float | None = None
    ) -> httpx.Response:
        """Send the request to one address; `seconds` bounds the connecting."""
        streams: list[httpcore.AsyncNetworkStream] = []

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                streams.append(info["return_value"])

        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address, port=port),
            headers=request.headers,  # with the Host that the URL named
            stream=request.stream,
            extensions={
                "sni_hostname": request.url.raw_host.decode("ascii"),
                "timeout": {"connect": seconds},
                "trace": trace,
            },
        )
        # The pool knows a connection by its address alone, but its certificate was checked for this host only. So no
        # connection is used for a second request.
        pinned.headers["Connection"] = "close"
        try:
            return await super().handle_async_request(pinned)
        except BaseException:
            # httpcore 1.0 forgets a connection whose TLS handshake is cancelled, as by the time-out of the whole.
            for stream in streams:
                await stream.aclose()
            raise


def public_transport() -> httpx.AsyncHTTPTransport:
    """For requests to what outsiders name: goes to public addresses only.

    Raises in a request:
        ApplicationError: SourceRefused, SourceUnreachable.
    """
    return _PinnedTransport(None, httpx.create_ssl_context(trust_env=False))


class Fetcher:
    """Fetches sources; one for each worker, open while it runs (`async with`).

    Failures are those of the error catalogue. SourceUnreachable is retried: time-outs, no DNS answer, a refused or
    broken connection, a TLS handshake that breaks off, 408, 429 and 5xx (waiting as Retry-After asks), a body that
    breaks off. SourceRefused is not, because the same answer would come again: what `check_url` refuses, an address
    that is not public, a redirect, any other status than 200, a certificate that is not valid for the host, a content
    type or coding that is not read, a body over the limit.

    Args:
        connect_to: "host:port" to which every connection goes instead of the source's own address, with host names
            unchanged in URL, SNI, certificate check and Host (the embedded stack, or an egress gateway). The only way
            to a private address.
        ca_file: PEM file of the certificate authorities to trust instead of the public ones.
        limits: bounds of each fetch.
    """

    def __init__(
        self, *, connect_to: str | None = None, ca_file: Path | None = None, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(trust_env=False)
        self._client = httpx.AsyncClient(
            transport=_PinnedTransport(None if connect_to is None else _host_and_port(connect_to), context),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None),  # the whole is bounded in _answer
            headers={"User-Agent": USER_AGENT, "Accept": ", ".join(MEDIA_TYPES), "Accept-Encoding": "gzip"},
            # What one source sets must not change what is fetched later.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, url: str) -> Fetched:
        """The document at `url`.

        Raises:
            ApplicationError: SourceUnreachable or SourceRefused.
        """
        async with self._answer("GET", url, self._limits.seconds) as response:
            body = await _read_body(response, self._limits.body_bytes)
        return Fetched(
            url=url,
            status=response.status_code,
            content_type=response.headers["content-type"],
            body=body,
            sha256=sha256_hex(body),
            fetched_at=datetime.now(UTC),
        )

    async def reachable(self, url: str) -> None:
        """Return when `url` answers as `get` needs it: asked by HEAD, then by GET, whose body is not read.

        Raises:
            ApplicationError: SourceUnreachable or SourceRefused, as GET met it.
        """
        try:
            async with self._answer("HEAD", url, self._limits.reachable_seconds):
                return
        except ApplicationError:
            # Many servers answer HEAD wrongly or not at all: GET decides.
            async with self._answer("GET", url, self._limits.reachable_seconds):
                return

    async def get_feed(self, url: str, etag: str | None, last_modified: str | None) -> FeedDocument | None:
        """The feed at `url`, or where that redirects to; None when it has not changed since `etag`, `last_modified`.

        Raises:
            ApplicationError: SourceUnreachable or SourceRefused.
        """
        asked = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: value for name, value in asked.items() if value}
        with _as_failures(_shown_url(url), self._limits.seconds):
            async with asyncio.timeout(self._limits.seconds):
                for _ in range(self._limits.redirects + 1):
                    if refusal := check_url(url):
                        raise failure(SOURCE_REFUSED, refusal)
                    async with self._client.stream("GET", url, headers=headers) as response:
                        if response.status_code == 304 and headers:
                            return None
                        if response.status_code in _REDIRECTS and "location" in response.headers:
                            url = _target(response)
                            continue
                        _check_status(response, _shown_url(url))
                        _check_head(response, _shown_url(url))
                        return FeedDocument(
                            url=url,
                            content_type=response.headers["content-type"],
                            body=await _read_body(response, self._limits.body_bytes),
                            etag=_validator(response, "etag"),
                            last_modified=_validator(response, "last-modified"),
                        )
        raise failure(SOURCE_REFUSED, f"{_shown_url(url)} is reached by more than {self._limits.redirects} redirects")

    @asynccontextmanager
    async def _answer(self, method: str, url: str, seconds: float) -> AsyncIterator[httpx.Response]:
        """An answer whose status and head are as they must be; its body is read inside, within the same time."""
        if refusal := check_url(url):
            raise failure(SOURCE_REFUSED, refusal)
        shown = _shown(httpx.URL(url))
        with _as_failures(shown, seconds):
            async with asyncio.timeout(seconds), self._client.stream(method, url) as response:
                _check_status(response, shown)
                _check_head(response, shown)
                yield response


@contextmanager
def _as_failures(shown: str, seconds: float) -> Iterator[None]:
    """What a fetch raises, as the error catalogue's entries."""
    try:
        yield
    except TimeoutError as error:
        raise failure(SOURCE_UNREACHABLE, f"{shown} did not answer in {seconds:g} s") from error
    except httpx.TransportError as error:
        invalid = _invalid_certificate(error)
        if invalid:
            raise failure(SOURCE_REFUSED, f"{shown} has no valid certificate: {invalid.verify_message}") from error
        why = str(error)[:200] or type(error).__name__
        raise failure(SOURCE_UNREACHABLE, f"{shown} gave no whole answer: {why}") from error


def _host_and_port(address: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})", address)
    if not match:
        raise ValueError(f"connect_to is {address!r}, it must be host:port such as 127.0.0.1:8443")
    return match[1] or match[2], int(match[3])


def _shown_url(url: str) -> str:
    """The same, of what need not be a URL."""
    try:
        return _shown(httpx.URL(url))
    except httpx.InvalidURL:
        return "the feed"


def _shown(url: httpx.URL) -> str:
    """The URL for messages: without query, which may carry a key."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"[:200]


_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def _target(response: httpx.Response) -> str:
    """Where a redirect leads; `check_url` judges it."""
    location = response.headers["location"]
    try:
        return str(response.request.url.join(location))
    except httpx.InvalidURL as error:
        raise failure(SOURCE_REFUSED, f"{_shown(response.url)} redirects to what is no URL") from error


def _validator(response: httpx.Response, name: str) -> str | None:
    """A validator to send back as it came; one of unusual length is none."""
    value: str = response.headers.get(name, "")
    return value if 0 < len(value) <= 500 and value.isprintable() and value.isascii() else None


def _check_status(response: httpx.Response, shown: str) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in {408, 429} or status >= 500:
        raise failure(SOURCE_UNREACHABLE, f"{shown} answered {status}", retry_after=_retry_after(response))
    if 300 <= status < 400:
        target = response.headers.get("location", "")
        try:
            target = _shown(response.request.url.join(target)) if target else "nowhere"
        except httpx.InvalidURL:
            target = "what is no URL"
        raise failure(SOURCE_REFUSED, f"{shown} redirects to {target}, name the page itself")
    raise failure(SOURCE_REFUSED, f"{shown} answered {status}, a document needs 200")


def _check_head(response: httpx.Response, shown: str) -> None:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise failure(SOURCE_REFUSED, f"{shown} answered with content type {media_type[:80]!r}, which is not read")
    if (coding := _coding(response)) not in {"identity", "gzip"}:
        raise failure(SOURCE_REFUSED, f"{shown} answered in content coding {coding[:80]!r}, only gzip was asked for")


def _coding(response: httpx.Response) -> str:
    coding: str = response.headers.get("content-encoding", "identity")
    return coding.strip().lower()


def _retry_after(response: httpx.Response) -> timedelta | None:
    """What Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
    asked = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", asked):
        seconds = int(asked[:10])
        return min(timedelta(seconds=seconds), RETRY_AFTER_LIMIT)
    try:
        wait = parsedate_to_datetime(asked) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return min(max(wait, timedelta(0)), RETRY_AFTER_LIMIT)


async def _read_body(response: httpx.Response, limit: int) -> bytes:
    """The body, decompressed. Both sides of the decompression are counted, so a small bomb stops at the limit."""
    shown = _shown(response.url)
    gunzip = zlib.decompressobj(wbits=31) if _coding(response) == "gzip" else None
    body, received = bytearray(), 0
    try:
        async for chunk in response.aiter_raw():
            received += len(chunk)
            body += gunzip.decompress(chunk, limit + 1 - len(body)) if gunzip else chunk
            if len(body) > limit or received > limit:
                raise failure(SOURCE_REFUSED, f"{shown} answered with more than {limit:,} bytes")
    except zlib.error as error:
        raise failure(SOURCE_UNREACHABLE, f"{shown} sent broken gzip: {error}") from error
    if gunzip and (not gunzip.eof or gunzip.unused_data):
        raise failure(SOURCE_UNREACHABLE, f"{shown} sent gzip that does not end where its body ends")
    return bytes(body)


def _invalid_certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
