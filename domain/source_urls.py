"""Which URLs may be sources at all, told from the URL alone: HTTPS, public names, no shorteners. Looks nothing up.

The fetcher checks more when it connects: every address that the name leads to, and that nothing redirects.
"""

import re

import httpx

URL_LIMIT = 2_000
"""Characters, as in the rules' `Source.url`."""

SHORTENERS = frozenset(
    {
        "adf.ly", "aka.ms", "amzn.to", "apple.co", "bit.do", "bit.ly", "bitly.com", "bl.ink", "bloom.bg",
        "buff.ly", "clck.ru", "cnn.it", "cutt.ly", "dlvr.it", "dub.sh", "fb.me", "g.co", "gg.gg", "goo.gl",
        "ht.ly", "hubs.ly", "is.gd", "j.mp", "kutt.it", "lnkd.in", "msft.it", "nyti.ms", "ow.ly", "po.st",
        "qr.ae", "rb.gy", "rebrand.ly", "redd.it", "reut.rs", "s.id", "short.gy", "shorturl.at", "smarturl.it",
        "snip.ly", "soo.gd", "t.co", "t.ly", "tcrn.ch", "tiny.cc", "tinyurl.com", "tr.im", "trib.al", "u.to",
        "url.ie", "v.gd", "wapo.st", "wp.me", "x.co", "x.gd", "youtu.be", "zpr.io",
    }
)  # fmt: skip
"""Hosts that only forward: the page behind them can be exchanged. Unknown ones are refused when they redirect."""

# Special-use names (IANA) and those that private networks use, none of which is on the public Internet.
_PRIVATE_SUFFIXES = (
    "alt", "arpa", "corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain",
    "localhost", "onion", "private", "test",
)  # fmt: skip

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)+{_LABEL}")


def check_url(url: str) -> str | None:
    """The sentence why a source's URL is refused, or None when it may be fetched. Looks nothing up."""
    if len(url) > URL_LIMIT:
        return f"The URL has {len(url)} characters, at most {URL_LIMIT} are read."
    try:
        parsed = httpx.URL(url)
        port, host = parsed.port, parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError) as error:
        return f"The URL cannot be read: {error}."
    if parsed.scheme != "https":
        return f"The URL's scheme is {parsed.scheme!r}, only https is read."
    if parsed.userinfo:
        return "The URL carries a user name or password, a public source needs none."
    if port is not None:  # httpx reads :443 as none
        return f"The URL names port {port}, official sources answer on 443."
    return _check_host(host)


def _check_host(host: str) -> str | None:
    # Browsers and resolvers read a host whose last part is a number (127.1, 0x7f000001, 2130706433) as an address.
    if ":" in host or re.fullmatch(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?", host):
        return f"The URL's host {host} is an IP address, an official source has a name."
    if host.rpartition(".")[2] in _PRIVATE_SUFFIXES:
        return f"The URL's host {host} is a name of private networks, a source must be public."
    if not _HOST_NAME.fullmatch(host):
        return f"The URL's host {host!r} is no public host name."
    shortener = next((short for short in SHORTENERS if host == short or host.endswith(f".{short}")), None)
    if shortener:
        return f"The URL is shortened by {shortener}, name the page that it leads to."
    return None
