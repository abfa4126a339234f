"""Reading feeds: every kind in use, what is refused, and that no document does more than be refused."""

import time
import timeit
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.feed_reading import MAX_ITEMS, read_feed
from domain.news_items import NewsItem

URL = "https://news.example.org/feeds/all.xml"

RSS_2 = b"""<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:media="http://search.yahoo.com/mrss/">
<channel><title>News</title><link>https://news.example.org</link>
<item><title>Acme &amp; Sons open &lt;b&gt;a plant&lt;/b&gt;</title><link>https://news.example.org/1</link>
<media:title>not this one</media:title>
<pubDate>Tue, 02 Jun 2026 10:00:00 +0200</pubDate><description>Short.</description>
<content:encoded><![CDATA[<p>Long&nbsp;text, caf\xc3\xa9.</p>]]></content:encoded></item>
</channel></rss>"""

RSS_091 = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.netscape.com/publish/formats/rss-0.91.dtd">
<rss version="0.91"><channel><title>News</title>
<item><title>Acme &amp; Sons open a plant</title><link>https://news.example.org/1</link>
<description>Long text, caf&eacute;.</description></item></channel></rss>"""

RSS_090 = b"""<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://my.netscape.com/rdf/simple/0.9/">
<channel><title>News</title></channel>
<item><title>Acme &amp; Sons open a plant</title><link>https://news.example.org/1</link></item></rdf:RDF>"""

RSS_1 = b"""<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://news.example.org"><title>News</title></channel>
<item rdf:about="https://news.example.org/1"><title>Acme &amp; Sons open a plant</title>
<link>https://news.example.org/1</link><description>Long text, caf\xc3\xa9.</description>
<dc:date>2026-06-02T08:00:00Z</dc:date></item></rdf:RDF>"""

ATOM = b"""<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>
<entry><title type="html">Acme &amp;amp; Sons open &lt;i&gt;a plant&lt;/i&gt;</title>
<link rel="edit" href="/edit/1"/><link href="/1"/><id>tag:news.example.org,2026:1</id>
<updated>2026-06-02T08:00:00Z</updated>
<content type="xhtml">
<div xmlns="http://www.w3.org/1999/xhtml"><p>Long text, caf\xc3\xa9.</p></div></content>
</entry></feed>"""

KINDS = {"RSS 2.0": RSS_2, "RSS 0.91": RSS_091, "RSS 0.90": RSS_090, "RSS 1.0": RSS_1, "Atom": ATOM}


def read(body: bytes, content_type: str = "application/rss+xml") -> list[NewsItem]:
    return read_feed(URL, content_type, body)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_feed_gives_the_same_item(kind: str) -> None:
    (item,) = read(KINDS[kind])
    assert item.title == "Acme & Sons open a plant"
    assert item.url == "https://news.example.org/1"
    if kind != "RSS 0.90":  # has titles and links alone
        assert item.content == "Long text, café."
    if kind not in {"RSS 0.90", "RSS 0.91"}:  # have no dates
        assert item.published_at == datetime(2026, 6, 2, 8, tzinfo=UTC)


def test_the_charset_is_the_documents_else_the_servers() -> None:
    latin = RSS_2.replace("café".encode(), "café".encode("latin-1"))
    undeclared = latin.replace(b'<?xml version="1.0" encoding="utf-8"?>\n', b"")
    (item,) = read(undeclared, "text/xml; charset=ISO-8859-1")
    assert item.content == "Long text, café."
    with pytest.raises(ValueError, match="not well-formed"):
        read(latin, "text/xml; charset=ISO-8859-1")  # the document says UTF-8, and counts


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (RSS_2[:-40], "not well-formed"),
        (RSS_2.replace(b"</item>", b"</itm>"), "not well-formed"),
        (RSS_2.replace(b"utf-8", b"x-klingon"), "not well-formed"),
        (b"", "not well-formed"),
        (b'{"version": "https://jsonfeed.org/version/1"}', "not well-formed"),
        (b"<html><body>Not found</body></html>", "no feed, its root element is 'html'"),
        (b"<rss>" + b"<a>" * 100_000, "not well-formed"),
    ],
    ids=["cut short", "crossed tags", "unknown charset", "empty", "JSON", "HTML", "deep"],
)
def test_a_bad_feed_is_told_in_a_clause(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(body)


def declaring(entity: bytes, title: bytes) -> bytes:
    item = b"<item><title>" + title + b"</title></item>"
    return b"<!DOCTYPE rss [" + entity + b']><rss version="2.0"><channel>' + item + b"</channel></rss>"


def test_no_entity_is_expanded_and_none_is_fetched() -> None:
    for entity in (b'<!ENTITY a "boo">', b'<!ENTITY a SYSTEM "file:///etc/passwd">'):
        with pytest.raises(ValueError, match="declares entities"):
            read(declaring(entity, b"A&a;B"))
    layers = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))

    def laugh() -> None:
        with pytest.raises(ValueError, match=r"declares entities|not well-formed"):
            read(declaring(b'<!ENTITY a0 "lol">' + layers, b"&a11;"))

    assert timeit.timeit(laugh, timer=time.process_time, number=1) < 1


def test_an_item_without_title_or_text_is_none_and_a_long_feed_is_cut() -> None:
    item = b"<item><title>%d</title></item>"
    many = b"<rss><channel><item/>" + b"".join(item % n for n in range(MAX_ITEMS + 5)) + b"</channel></rss>"
    assert [item.title for item in read(many)] == [str(n) for n in range(MAX_ITEMS)]


@pytest.mark.parametrize(
    "link", [b"javascript:alert(1)", b"http://[", b"", b"ftp://a.example.org/"], ids=["script", "broken", "none", "ftp"]
)
def test_a_link_that_is_none_is_the_feeds_own(link: bytes) -> None:
    (item,) = read(RSS_2.replace(b"https://news.example.org/1", link))
    assert item.url == URL


FRAGMENTS = [
    b"<", b">", b"&", b"]]>", b"<![CDATA[", b"&#0;", b"&#xD800;", b"&#x110000;", b"\x00", b"\xff", b"\xed\xa0\x80",
    b"<item>", b"</item>", b"<entry>", b"<title>", b"<!DOCTYPE x [", b"<!ENTITY a 'b'>", b"&a;", b"&nbsp;", b"<!--",
    b"xmlns:a=''", b"<?xml version='1.0' encoding='hex'?>", b" encoding='utf-16'",
    b"<pubDate>99999-13-45T99:99Z</pubDate>",
    b"<pubDate>Mon, 01 Jan 0001 00:00:00 +9999</pubDate>", b"<link>http://[::1</link>", b"<link/>", b"&NotEqualTilde;",
]  # fmt: skip


@st.composite
def mutated_feeds(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from(list(KINDS.values()))))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 40))
        body[place : place + length] = draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)))
    return bytes(body)


@settings(max_examples=1_500)
@given(
    mutated_feeds(), st.sampled_from(["text/xml", "text/xml; charset=hex", "application/atom+xml;charset=utf-16", ""])
)
def test_a_mutated_feed_is_read_or_refused_and_what_is_read_can_be_stored(body: bytes, content_type: str) -> None:
    try:
        items = read_feed(URL, content_type, body)
    except ValueError as refused:
        items, why = [], str(refused)
    else:
        why = "the document is read"
    assert why.startswith("the document ")
    for item in items:
        stored = f"{item.title}{item.content}{item.url}"
        assert "\x00" not in stored
        stored.encode()
        assert len(item.content_sha256) == 64
