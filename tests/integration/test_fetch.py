"""The fetcher against a real TLS server, on an Internet of its own: the operating system's look-up and connect are
replaced, so that public addresses lead to the test's servers and nothing leaves the machine."""

import asyncio
import gzip
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from temporalio.exceptions import ApplicationError

from activities.fetch import Fetcher, Limits

HOST = "data.example.org"
URL = f"https://{HOST}/series?key=secret"
PUBLIC, OTHER_PUBLIC = "93.184.215.14", "93.184.215.15"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(
    body: bytes = b"<p>4.25</p>", status: str = "200 OK", content_type: str | None = "text/html", **headers: str
) -> bytes:
    """An answer as it goes over the wire; `Content_Length=""` leaves that header out."""
    head = {"Content-Type": content_type, "Content-Length": str(len(body))}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@dataclass
class Server:
    """A TLS server that gives every request the same answer, and notes what it was asked."""

    answer: bytes | Answer = field(default_factory=http)
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def methods(self) -> list[str]:
        return [request.split(" ")[0] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if callable(self.answer):
                await self.answer(writer)
            else:
                writer.write(self.answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as several tests mean it to
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server, certificate: trustme.LeafCert) -> AsyncIterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@dataclass
class Internet:
    """What names resolve to, and which addresses answer. Every look-up and every connection is noted."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    """For each name the answers that DNS gives one after the other; the last one stays."""
    addresses: dict[str, int] = field(default_factory=dict)
    """Address to the loopback port that stands for its port 443."""
    looked_up: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    internet = Internet()
    connect = socket.socket.connect

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        internet.looked_up.append(host)
        answers = internet.names.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    def connect_instead(self: socket.socket, address: tuple[str, int]) -> None:
        internet.connected.append((address[0], address[1]))
        if address[0] not in internet.addresses or address[1] != 443:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(self, ("127.0.0.1", internet.addresses[address[0]]))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect_instead)
    return internet


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def server(ca: trustme.CA) -> AsyncIterator[Server]:
    async with serving(Server(), ca.issue_cert(HOST)) as server:
        yield server


@pytest.fixture
async def public(server: Server, internet: Internet) -> Server:
    """The server, as the public host."""
    internet.names[HOST] = [[PUBLIC]]
    internet.addresses[PUBLIC] = server.port
    return server


@pytest.fixture
async def fetcher(ca_file: Path) -> AsyncIterator[Fetcher]:
    async with Fetcher(ca_file=ca_file) as fetcher:
        yield fetcher


@pytest.fixture
async def hasty(ca_file: Path) -> AsyncIterator[Fetcher]:
    """A fetcher that soon loses patience."""
    async with Fetcher(ca_file=ca_file, limits=Limits(seconds=0.5, reachable_seconds=2)) as fetcher:
        yield fetcher


async def refused(asking: Awaitable[object]) -> str:
    """The message of the refusal that must come, which is not retried."""
    with pytest.raises(ApplicationError) as caught:
        await asking
    assert (caught.value.type, caught.value.non_retryable) == ("SourceRefused", True)
    return caught.value.message


async def unreachable(asking: Awaitable[object]) -> ApplicationError:
    """The failure that must come, which is retried."""
    with pytest.raises(ApplicationError) as caught:
        await asking
    assert (caught.value.type, caught.value.non_retryable) == ("SourceUnreachable", False)
    return caught.value


async def test_a_document_comes_back_as_it_was_sent(public: Server, fetcher: Fetcher) -> None:
    body = "<p>4,25 % in Zürich</p>".encode("latin-1")
    public.answer = http(body, content_type="text/html; charset=ISO-8859-1")
    before = datetime.now(UTC)
    document = await fetcher.get(URL)
    assert (document.url, document.status, document.body) == (URL, 200, body)
    assert document.content_type == "text/html; charset=ISO-8859-1"
    assert document.sha256 == sha256(body).hexdigest()
    assert before <= document.fetched_at <= datetime.now(UTC)


async def test_the_source_sees_its_own_name_and_one_user_agent(public: Server, fetcher: Fetcher) -> None:
    await fetcher.get(URL)
    request = public.requests[0].lower()
    assert request.startswith("get /series?key=secret http/1.1\r\n")
    assert f"\r\nhost: {HOST}\r\n" in request
    assert request.count("user-agent: clotho/") == 1
    assert public.server_names == [HOST]


async def test_nothing_that_a_source_sets_comes_back_to_it(public: Server, fetcher: Fetcher) -> None:
    public.answer = http(Set_Cookie=f"seen=1; Domain={HOST}; Path=/")
    await fetcher.get(URL)
    await fetcher.get(URL)
    assert "cookie" not in public.requests[1].lower()


# Addresses


async def test_a_name_that_turns_private_after_the_check_gains_nothing(
    public: Server, internet: Internet, fetcher: Fetcher
) -> None:
    internet.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    assert (await fetcher.get(URL)).body == b"<p>4.25</p>"
    assert internet.looked_up == [HOST]
    assert internet.connected == [(PUBLIC, 443)]
    assert "127.0.0.1" in await refused(fetcher.get(URL))
    assert internet.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.1.2.3", "::10.1.2.3", "64:ff9b::a01:203",
     "2002:a01:203::1", "2001:0:4136:e378:8000:63bf:f5fe:fdfc", "fe80::1%1"],
)  # fmt: skip
async def test_no_connection_is_made_to_a_name_with_one_address_that_is_not_public(
    address: str, public: Server, internet: Internet, fetcher: Fetcher
) -> None:
    internet.names[HOST] = [[PUBLIC, address]]
    assert address in await refused(fetcher.get(URL))
    assert address in await refused(fetcher.reachable(URL))
    assert internet.connected == []


async def test_a_dead_address_leads_to_the_next_one(public: Server, internet: Internet, fetcher: Fetcher) -> None:
    internet.names[HOST] = [[OTHER_PUBLIC, PUBLIC]]
    assert (await fetcher.get(URL)).status == 200
    assert internet.connected == [(OTHER_PUBLIC, 443), (PUBLIC, 443)]


async def test_an_unknown_name_is_unreachable(internet: Internet, fetcher: Fetcher) -> None:
    assert HOST in (await unreachable(fetcher.get(URL))).message


async def test_a_refused_connection_is_unreachable(internet: Internet, fetcher: Fetcher) -> None:
    internet.names[HOST] = [[PUBLIC]]
    assert HOST in (await unreachable(fetcher.get(URL))).message


@pytest.mark.parametrize(
    "url",
    [f"http://{HOST}/", f"https://user:pass@{HOST}/", f"https://{HOST}:8443/", "https://10.1.2.3/", "https://bit.ly/x"],
)
async def test_a_refused_url_is_not_even_looked_up(url: str, internet: Internet, fetcher: Fetcher) -> None:
    await refused(fetcher.get(url))
    await refused(fetcher.reachable(url))
    assert internet.looked_up == []
    assert internet.connected == []


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_is_ignored(
    variable: str, public: Server, internet: Internet, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:3128")
    async with Fetcher(ca_file=ca_file) as fetcher:
        await fetcher.get(URL)
    assert internet.connected == [(PUBLIC, 443)]


# Redirects and statuses


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://elsewhere.example.net/page?token=abc", "https://elsewhere.example.net/page"),
        ("http://169.254.169.254/latest", "http://169.254.169.254/latest"),
        ("/moved", f"https://{HOST}/moved"),
    ],
)
async def test_a_redirect_is_refused_with_its_target_and_not_followed(
    status: str, target: str, shown: str, public: Server, internet: Internet, fetcher: Fetcher
) -> None:
    public.answer = http(b"", status, Location=target)
    message = await refused(fetcher.get(URL))
    assert shown in message
    assert "token" not in message
    assert internet.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial", "400 Bad", "401 No", "403 No", "404 No", "410 No"])
async def test_a_status_that_will_not_change_is_refused(status: str, public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"", status)
    message = await refused(fetcher.get(URL))
    assert status[:3] in message
    assert "secret" not in message


@pytest.mark.parametrize("status", ["408 Timeout", "429 Slow down", "500 Oops", "502 Bad Gateway", "503 Busy"])
async def test_a_passing_status_is_unreachable(status: str, public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"", status)
    failure = await unreachable(fetcher.get(URL))
    assert status[:3] in failure.message
    assert failure.next_retry_delay is None


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("31536000", 3600),
        ("9" * 30, 3600),
        (timedelta(minutes=30), 1800),
        (timedelta(days=-1), 0),
        (timedelta(days=365), 3600),
    ],
)
async def test_retry_after_sets_the_next_attempt_within_an_hour(
    asked: str | timedelta, seconds: int, public: Server, fetcher: Fetcher
) -> None:
    header = asked if isinstance(asked, str) else format_datetime(datetime.now(UTC) + asked, usegmt=True)
    public.answer = http(b"", "429 Slow down", Retry_After=header)
    delay = (await unreachable(fetcher.get(URL))).next_retry_delay
    assert delay is not None
    # A date says whole seconds, and some of them pass until it is read.
    assert seconds - 60 < delay.total_seconds() <= seconds


async def test_a_retry_after_that_says_nothing_is_ignored(public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"", "503 Busy", Retry_After="soon")
    assert (await unreachable(fetcher.get(URL))).next_retry_delay is None


# Bodies


@pytest.mark.parametrize(
    "content_type",
    ["text/html; charset=utf-8", "application/xhtml+xml", "text/xml", "application/xml", "application/json",
     "Application/JSON;charset=UTF-8", "text/plain", "text/csv", "application/rss+xml", "application/atom+xml",
     "application/geo+json", "application/vnd.sdmx.data+json"],
)  # fmt: skip
async def test_documents_are_read(content_type: str, public: Server, fetcher: Fetcher) -> None:
    public.answer = http(content_type=content_type)
    assert (await fetcher.get(URL)).content_type == content_type


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "image/svg+xml", "application/pdf", "application/octet-stream", "video/mp4", "text/html, image/png",
     "application/jsonp", "text/htmlx", None],
)  # fmt: skip
async def test_what_is_no_document_is_refused(content_type: str | None, public: Server, fetcher: Fetcher) -> None:
    public.answer = http(content_type=content_type)
    assert "content type" in await refused(fetcher.get(URL))


async def test_gzip_is_unpacked(public: Server, fetcher: Fetcher) -> None:
    body = b'{"value": 4.25}' * 10_000
    public.answer = http(gzip.compress(body), content_type="application/json", Content_Encoding="gzip")
    document = await fetcher.get(URL)
    assert (document.body, document.sha256) == (body, sha256(body).hexdigest())


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip"])
async def test_a_coding_that_was_not_asked_for_is_refused(coding: str, public: Server, fetcher: Fetcher) -> None:
    public.answer = http(Content_Encoding=coding)
    assert "coding" in await refused(fetcher.get(URL))


async def test_a_zip_bomb_is_cut_before_it_unfolds(public: Server, fetcher: Fetcher) -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=9)
    assert len(bomb) < 5_000_000
    public.answer = http(bomb, Content_Encoding="gzip")
    tracemalloc.start()
    try:
        assert "5,000,000 bytes" in await refused(fetcher.get(URL))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(declared: bool, public: Server, ca_file: Path) -> None:
    length = {} if declared else {"Content_Length": ""}
    async with Fetcher(ca_file=ca_file, limits=Limits(body_bytes=1_000)) as fetcher:
        public.answer = http(b"x" * 1_000, **length)
        assert len((await fetcher.get(URL)).body) == 1_000
        public.answer = http(b"x" * 1_001, **length)
        assert "1,000 bytes" in await refused(fetcher.get(URL))
        public.answer = http(gzip.compress(b"x") + bytes(1_000), **length, Content_Encoding="gzip")
        assert "1,000 bytes" in await refused(fetcher.get(URL))


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<p>4.", Content_Length="11"),
        http(gzip.compress(b"4.25" * 1_000)[:-9], Content_Encoding="gzip"),
        http(gzip.compress(b"4.25") + b"more", Content_Encoding="gzip"),
        http(b"no gzip at all", Content_Encoding="gzip"),
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_unreachable(answer: bytes, public: Server, fetcher: Fetcher) -> None:
    public.answer = answer
    message = (await unreachable(fetcher.get(URL))).message
    assert HOST in message
    assert PUBLIC not in message


# Time


async def test_a_slow_drip_ends_when_the_whole_took_too_long(public: Server, hasty: Fetcher) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"", Content_Length="1000000"))
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    public.answer = drip
    started = time.monotonic()
    assert "0.5 s" in (await unreachable(hasty.get(URL))).message
    assert time.monotonic() - started < 60  # the whole drip would take five hours


async def _never(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_server_that_says_nothing_is_unreachable(public: Server, hasty: Fetcher) -> None:
    public.answer = _never
    assert "0.5 s" in (await unreachable(hasty.get(URL))).message


async def test_a_handshake_that_never_ends_is_unreachable(internet: Internet, hasty: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        internet.names[HOST] = [[PUBLIC]]
        internet.addresses[PUBLIC] = silent.getsockname()[1]
        assert "0.5 s" in (await unreachable(hasty.get(URL))).message
        left, _ = silent.accept()
        with left:
            left.settimeout(5)
            while left.recv(4_096):  # to the end: the fetcher has closed the connection
                pass


# Certificates


async def test_a_certificate_for_another_host_is_refused(ca: trustme.CA, internet: Internet, fetcher: Fetcher) -> None:
    async with serving(Server(), ca.issue_cert("other.example.org", PUBLIC)) as impostor:
        internet.names[HOST] = [[PUBLIC]]
        internet.addresses[PUBLIC] = impostor.port
        assert "certificate" in await refused(fetcher.get(URL))
        assert impostor.requests == []


async def test_a_certificate_of_an_unknown_authority_is_refused(internet: Internet, fetcher: Fetcher) -> None:
    async with serving(Server(), trustme.CA().issue_cert(HOST)) as impostor:
        internet.names[HOST] = [[PUBLIC]]
        internet.addresses[PUBLIC] = impostor.port
        assert "certificate" in await refused(fetcher.get(URL))
        assert impostor.requests == []


async def test_without_a_file_the_public_authorities_are_trusted(public: Server) -> None:
    async with Fetcher() as fetcher:
        assert "certificate" in await refused(fetcher.get(URL))


async def test_a_server_without_tls_is_unreachable(internet: Internet, fetcher: Fetcher) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http())
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as plain:
        internet.names[HOST] = [[PUBLIC]]
        internet.addresses[PUBLIC] = plain.sockets[0].getsockname()[1]
        await unreachable(fetcher.get(URL))


# Connecting to one address instead


@pytest.fixture
async def gateway(server: Server, ca_file: Path) -> AsyncIterator[Fetcher]:
    async with Fetcher(connect_to=server.address, ca_file=ca_file) as fetcher:
        yield fetcher


async def test_connect_to_leads_every_host_to_one_private_address(server: Server, gateway: Fetcher) -> None:
    assert (await gateway.get(URL)).url == URL
    assert f"\r\nhost: {HOST}\r\n" in server.requests[0].lower()
    assert server.server_names == [HOST]


async def test_connect_to_opens_no_other_door(server: Server, gateway: Fetcher) -> None:
    for url in (f"http://{HOST}/", f"https://127.0.0.1:{server.port}/", "https://localhost/", "https://bit.ly/x"):
        await refused(gateway.get(url))
    assert server.connections == 0


async def test_each_host_must_show_its_own_certificate(server: Server, gateway: Fetcher) -> None:
    await gateway.get(URL)
    assert "certificate" in await refused(gateway.get("https://other.example.org/"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "host:", ":443", "https://host:443", "host:99999999", ""])
def test_a_bad_connect_to_is_one_sentence(address: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        Fetcher(connect_to=address)


# Reachability


async def test_reachable_asks_by_head(public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"", Content_Length="50000000")
    await fetcher.reachable(URL)
    assert public.methods == ["HEAD"]


@pytest.fixture
def only_get(public: Server) -> Server:
    """A server that answers HEAD by 405."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(http() if public.methods[-1] == "GET" else http(b"", "405 No"))

    public.answer = answer
    return public


async def test_reachable_asks_by_get_when_head_is_not_answered(only_get: Server, fetcher: Fetcher) -> None:
    await fetcher.reachable(URL)
    assert only_get.methods == ["HEAD", "GET"]


async def test_reachable_asks_by_get_when_head_is_left_hanging(public: Server, hasty: Fetcher) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        if public.methods[-1] == "GET":
            writer.write(http())
        else:
            await _never(writer)

    public.answer = answer
    await hasty.reachable(URL)
    assert public.methods == ["HEAD", "GET"]


async def test_reachable_says_what_is_wrong(public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"", "404 No")
    assert "404" in await refused(fetcher.reachable(URL))
    public.answer = http(b"", "503 Busy")
    assert "503" in (await unreachable(fetcher.reachable(URL))).message
    public.answer = http(content_type="image/png")
    assert "image/png" in await refused(fetcher.reachable(URL))
    public.answer = http(b"", "301 Moved", Location="https://elsewhere.example.net/")
    assert "elsewhere.example.net" in await refused(fetcher.reachable(URL))


async def test_a_feed_is_asked_for_what_is_new(public: Server, fetcher: Fetcher) -> None:
    public.answer = http(b"<rss/>", content_type="text/xml", ETag='"1"', Last_Modified="Mon, 01 Jun 2026 10:00:00 GMT")
    first = await fetcher.get_feed(URL, None, None)
    assert first is not None
    assert first.body == b"<rss/>"
    public.answer = http(b"", "304 Not Modified", None)
    assert await fetcher.get_feed(URL, first.etag, first.last_modified) is None
    assert 'If-None-Match: "1"\r\nIf-Modified-Since: Mon, 01 Jun 2026 10:00:00 GMT\r\n' in public.requests[-1]
    await refused(fetcher.get_feed(URL, None, None))  # nobody asked whether it has changed


@pytest.mark.parametrize("target", ["http://data.example.org/", "https://10.0.0.1/", "https://inside.example.org/"])
async def test_a_feed_leads_nowhere_that_it_could_not_be_itself(
    public: Server, fetcher: Fetcher, internet: Internet, target: str
) -> None:
    internet.names["inside.example.org"] = [["10.0.0.1"]]
    public.answer = http(b"", "302 Found", None, Location=target)
    await refused(fetcher.get_feed(URL, None, None))
    assert {address for address, _ in internet.connected} == {PUBLIC}
    public.answer = http(b"", "302 Found", None, Location="/again")
    public.requests.clear()
    assert "more than 5 redirects" in await refused(fetcher.get_feed(URL, None, None))
    assert len(public.requests) == 6
