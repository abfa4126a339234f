"""Feeds of every kind in use (RSS 0.90 to 2.0, RDF, Atom) as news items; strict, and with the work bounded.

A document that is not well-formed is refused and not mended: what a parser guesses of it would be hashed, and hashed
anew when the publisher mends the feed.
"""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from lxml import etree  # type: ignore[import-untyped] # its stubs are another package

from domain.news_items import NewsItem, item_of

MAX_ITEMS = 1_000
"""Of one document, the first; feeds list the newest first."""

_CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
_DC_DATE = "{http://purl.org/dc/elements/1.1/}date"
_ROOTS = frozenset({"rss", "RDF", "feed"})
_DATES = ("pubDate", "published", "updated", "issued", "modified", "date")
_TEXTS = ("content", "description", "summary")

_NAMED = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31};)")
_OF_XML = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._-]{1,40})")
_DECLARES_ENCODING = re.compile(rb"\A(?:<\?xml[^>]{0,200}\bencoding\s*=|\xef\xbb\xbf|\xff\xfe|\xfe\xff)")


def read_feed(url: str, content_type: str, body: bytes) -> list[NewsItem]:
    """The items of a feed, in its order; what has neither title nor text is left out.

    Args:
        url: where the feed was read, to which its links are relative.
        content_type: as the server sent it; its charset counts when the document names none.
        body: the document.

    Raises:
        ValueError: it is no feed, is not well-formed, is not in the charset that it names, or declares entities of its
            own; the message is a clause.
    """
    root = _tree(content_type, body)
    kind = etree.QName(root).localname
    if kind not in _ROOTS:
        raise ValueError(f"the document is no feed, its root element is {kind[:40]!r}")
    items: list[NewsItem] = []
    for element in root.iter("{*}item", "{*}entry"):
        if len(items) == MAX_ITEMS:
            break
        item = _item(url, element)
        if item is not None:
            items.append(item)
    return items


def _tree(content_type: str, body: bytes) -> Any:
    body = _NAMED.sub(_as_number, body.lstrip())
    charset = _CHARSET.search(content_type)
    try:
        parser = etree.XMLParser(
            encoding=charset[1] if charset and not _DECLARES_ENCODING.match(body) else None,
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        root = etree.fromstring(body, parser)
    except (etree.LxmlError, LookupError, ValueError) as error:
        why = getattr(error, "msg", None) or str(error)
        raise ValueError(f"the document is not well-formed XML ({why[:200]})") from None
    internal = root.getroottree().docinfo.internalDTD
    if internal is not None and any(True for _ in internal.iterentities()):
        raise ValueError("the document declares entities of its own, which are not read")
    return root


def _as_number(named: re.Match[bytes]) -> bytes:
    """A named character of HTML, which feeds use without declaring it, as a numeric one."""
    name = named[1].decode()
    characters = None if name in _OF_XML else html.entities.html5.get(name)
    return named[0] if characters is None else "".join(f"&#{ord(one)};" for one in characters).encode()


def _item(url: str, element: Any) -> NewsItem | None:
    home = etree.QName(element).namespace
    own: dict[str, list[Any]] = {}
    for child in element.iterchildren("{*}*"):
        name = etree.QName(child)
        if name.namespace == home:
            own.setdefault(name.localname, []).append(child)
    texts = [*element.iterchildren(_CONTENT), *(child for name in _TEXTS for child in own.get(name, ()))]
    dates = [*(child for name in _DATES for child in own.get(name, ())), *element.iterchildren(_DC_DATE)]
    return item_of(
        url=_link(url, own),
        title=next((_text(child) for child in own.get("title", ())), ""),
        content=next((text for child in texts if (text := _text(child))), ""),
        published_at=next((moment for child in dates if (moment := _moment(_text(child))) is not None), None),
    )


def _link(url: str, own: dict[str, list[Any]]) -> str:
    """The item's own address, else the feed's."""
    for target in _targets(own):
        try:
            joined = urljoin(url, target)
        except ValueError:
            continue
        if joined.startswith(("https://", "http://")):
            return joined
    return url


def _targets(own: dict[str, list[Any]]) -> Iterator[str]:
    links = own.get("link", [])
    yield from (
        child.get("href") for child in links if child.get("href") and child.get("rel", "alternate") == "alternate"
    )
    yield from (text for child in links if (text := _text(child)))
    yield from (_text(child) for child in own.get("guid", ()) if child.get("isPermaLink", "true") == "true")


def _text(element: Any) -> str:
    return "".join(element.itertext()).strip()


def _moment(text: str) -> datetime | None:
    """A date as RSS (RFC 2822) or Atom and Dublin Core (RFC 3339) write it; None for what is none."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text[:60])
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
