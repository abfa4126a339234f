"""HTML in any charset and CSS selectors over it, with the work bounded.

The parser's time grows with the square of what is left open, and its own matching of combinators with a power of the
nesting (and after `:has` it is wrong, selectolax 1.0.2). So documents are measured before they are parsed, and the
parser's engine matches only the compounds of a selector.
"""

import functools
import re
from collections import Counter

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError
from w3lib.encoding import html_to_unicode

from domain.text import clean

MAX_TAGS = 100_000
"""Tags that a document may have: `:nth-child` over so many siblings takes seconds, and four times that with twice as
many."""

MAX_OPEN = 500
"""Elements that may be open at once, where those whose end tag may be left out do not count; browsers stop at 512."""

MAX_ATTRIBUTES = 10_000
"""Characters of one tag's attributes, quoted values apart."""

MAX_COMPOUNDS = 20
"""Compounds that a selector may have."""


def decode(content_type: str, body: bytes) -> str:
    """The text of an HTML document: by byte order mark, Content-Type, `<meta>`, else UTF-8. Never fails."""
    try:
        return clean(html_to_unicode(content_type, body)[1])
    except (LookupError, ValueError):  # a charset that Python knows as something else: hex, idna
        return clean(body.decode(errors="replace"))


def parse(text: str) -> LexborHTMLParser:
    """The tree of an HTML document.

    Raises:
        ValueError: it is too large or nested too deep to be read in bounded time.
    """
    depths: Counter[str] = Counter()
    open_now = tags = 0
    for tag in _TAG.finditer(text):
        tags += 1
        if tags > MAX_TAGS:
            raise ValueError(f"the document has more than {MAX_TAGS} tags")
        attributes = tag["attributes"]
        if len(attributes) > MAX_ATTRIBUTES and len(_QUOTED.sub("", attributes)) > MAX_ATTRIBUTES:
            raise ValueError(f"the document has a tag with more than {MAX_ATTRIBUTES} characters of attributes")
        name = tag["name"].lower()
        if name in _NEED_NO_END:
            continue
        if not tag["slash"]:
            depths[name] += 1
            open_now += 1
        elif depths[name]:
            depths[name] -= 1
            open_now -= 1
        if open_now > MAX_OPEN:
            raise ValueError(f"the document has more than {MAX_OPEN} elements open at once")
    return LexborHTMLParser(text)


def select(tree: LexborHTMLParser, selector: str) -> list[LexborNode]:
    """The elements that a selector matches, each once, in document order.

    Raises:
        ValueError: `selector` is refused; the message is a sentence.
    """
    elements = tree.css("*")
    found: set[int] = set()
    for steps in compiled_selector(selector):
        found |= _matched(elements, [(combinator, _hits(tree, compound)) for combinator, compound in steps])
    return [element for element in elements if element.mem_id in found]


@functools.lru_cache(maxsize=256)
def compiled_selector(selector: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    """For each selector of a list its steps: the combinator that leads to a compound, and the compound.

    Raises:
        ValueError: it is no selector, or has other parts than types, classes, ids, attributes, pseudo-classes (without
            arguments, `:nth-…`, or `:not`, `:is`, `:where`, `:has` of one compound) and combinators.
    """
    groups: list[list[tuple[str, str]]] = [[]]
    combinator, compound, place, text = " ", "", 0, selector.strip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise _refused(selector, f"{text[place : place + 20]!r} cannot be read in it")
        place = token.end()
        if token["simple"]:
            compound += token["simple"]
            continue
        if not compound:
            raise _refused(selector, "a combinator joins nothing in it")
        groups[-1].append((combinator, compound))
        combinator, compound = (token["combinator"] or " ").strip() or " ", ""
        if token["comma"]:
            groups.append([])
    if not compound:
        raise _refused(selector, "nothing stands at its end")
    groups[-1].append((combinator, compound))
    if sum(map(len, groups)) > MAX_COMPOUNDS:
        raise _refused(selector, f"it has more than {MAX_COMPOUNDS} compounds")
    empty = LexborHTMLParser("")
    for _, part in (step for group in groups for step in group):
        _hits(empty, part)
    return tuple(map(tuple, groups))


def _matched(elements: list[LexborNode], steps: list[tuple[str, set[int]]]) -> set[int]:
    """Elements that match all steps. Bit n of a mask says that an element ends a match of the steps up to n."""
    here: dict[int, int] = {}
    above: dict[int, int] = {}
    last_child: dict[int, int] = {}
    before: dict[int, int] = {}
    found = set()
    for element in elements:
        me, parent = element.mem_id, _parent_id(element)
        reach = {
            " ": above.get(parent, 0) | here.get(parent, 0),
            ">": here.get(parent, 0),
            "+": last_child.get(parent, 0),
            "~": before.get(parent, 0),
        }
        mask = 0
        for n, (combinator, hits) in enumerate(steps):
            if me in hits and (n == 0 or reach[combinator] >> (n - 1) & 1):
                mask |= 1 << n
        here[me], above[me] = mask, reach[" "]
        last_child[parent] = mask
        before[parent] = reach["~"] | mask
        if mask >> (len(steps) - 1) & 1:
            found.add(me)
    return found


def _parent_id(element: LexborNode) -> int:
    parent = element.parent
    return parent.mem_id if parent is not None else 0


def _hits(tree: LexborHTMLParser, compound: str) -> set[int]:
    try:
        return {element.mem_id for element in tree.css(compound)}
    except SelectolaxError as error:
        raise _refused(compound, str(error)) from error


def _refused(selector: str, why: str) -> ValueError:
    return ValueError(f"CSS selector {selector!r} is refused: {why}")


_QUOTED = re.compile(r""""[^"]*"|'[^']*'""")
_TAG = re.compile(rf"""<(?P<slash>/?)(?P<name>[a-zA-Z][^\s/>]*)(?P<attributes>(?:{_QUOTED.pattern}|[^>"'])*+)""")

# Elements without an end tag, or whose end tag HTML lets be left out and which then do not nest.
_NEED_NO_END = frozenset(
    {
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
        "html", "head", "body", "p", "li", "dt", "dd", "option", "optgroup", "caption", "colgroup", "thead", "tbody",
        "tfoot", "tr", "td", "th",
    }
)  # fmt: skip

_NAME = r"(?:[-\w]|\\.)+"
_TOKEN = re.compile(
    rf"""
    (?P<comma> \s*,\s* )
    | (?P<combinator> \s*[>+~]\s* | \s+ )
    | (?P<simple>
        \* | [.\#]?{_NAME}
        | \[ \s* {_NAME} \s* (?: [~|^$*]?= \s* (?: "[^"]*" | '[^']*' | {_NAME} ) \s* [is]? \s* )? \]
        | :nth-[-a-z]+ \( [-+\w\ ]+ \)
        | :(?:not|is|where|has) \( (?: \* | [.\#]?{_NAME} ) (?: [.\#]{_NAME} )* \)
        | :[-a-z]+ (?! [-\w(] )
    )""",
    re.VERBOSE,
)
