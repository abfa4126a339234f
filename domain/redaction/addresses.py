"""E-mail addresses, IP addresses and bank accounts (IBAN)."""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from domain.redaction.kinds import Kind, Span

_LOCAL_LONGEST = 64
"""Characters before the @ (RFC 5321, 4.5.3.1.1)."""
_LOCAL = re.compile(r"(?<![\w+])[\w+][\w.+%'&-]*$")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?P<top>xn--[A-Za-z0-9-]{2,59}|[^\W\d_]{2,63})(?![^\W_]|@|-\w)"
)
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff]")
"""Scripts without spaces, where an address stands right between words."""
_FILES = frozenset("png jpg jpeg gif svg webp css js json html htm txt pdf csv mp4 mp3 ts tsx py".split())  # noqa: SIM905
"""Ends of names of files that hold an @ (`icon@2x.png`) and are no top-level domains."""

_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9\0\1]|_[A-Za-z0-9]|\.\d)")
_VERSION = re.compile(
    r"(?:\bv|version|release|build|firmware|section|chapter|clause|paragraph|driver|sdk|jdk)[ .:]*$", re.I
)
"""Words before four numbers with points that are no address."""
_IPV6 = re.compile(
    r"""(?x:
      (?:(?<![A-Za-z0-9:.])(?<![A-Za-z0-9]_)|(?<=[G-Zg-z]:)|(?<=[A-Za-z][A-Za-z][46]:))  # or after a word such as "ip:"
      (?=[0-9A-Fa-f:]*\d)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?
      (?![A-Za-z0-9\0\1]|_[A-Za-z0-9]|:[0-9A-Fa-f:]|\.\d)
    )"""
)

_IBAN_START = re.compile(r"\d(?<![A-Za-z0-9][A-Za-z]{2}\d)(?<=[A-Za-z]{2}\d)")
_IBAN = re.compile(r"[A-Za-z]{2}\d\d(?:(?:[ .-]|  |\r?\n)?[A-Za-z0-9]){11,29}+")
_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29"
    " ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20"
    " LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29"
    " PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    " YE30"
)
_IBAN_LENGTHS = {country[:2]: int(country[2:]) for country in _COUNTRIES.split()}
"""Characters of an account number by country (SWIFT, IBAN registry, release 100)."""
_ALNUM = re.compile(r"[A-Za-z0-9]")


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses in folded `text`, from their @ outwards."""
    at, since = text.find("@"), 0
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain and domain["top"].lower() not in _FILES:
            local = _LOCAL.search(text, max(since, at - _LOCAL_LONGEST), at)
            if local:
                since = _last(text, domain.start("top"), domain.end())
                yield Span(_first(text, local.start(), at, since), since, Kind.EMAIL)
        at = text.find("@", at + 1)


def ips(text: str) -> Iterator[Span]:
    """IP addresses of both versions in folded `text`."""
    for four in _IPV4.finditer(text):
        start = four.start()
        if _opens(text, start) and _is_ipv4(four[0]) and not _VERSION.search(text, max(0, start - 12), start):
            yield Span(start, four.end(), Kind.IP)
    if text.count(":") >= 2:
        for six in _IPV6.finditer(text):
            # A colon before it, or after it, belongs to the sentence.
            before = six[0].startswith(":") and not six[0].startswith("::")
            after = six[0].endswith(":") and not six[0].endswith("::")
            start, end = six.start() + before, six.end() - after
            if _is_ipv6(text[start:end]):
                yield Span(start, end, Kind.IP)


def ibans(text: str) -> Iterator[Span]:
    """Bank accounts in folded `text` whose length is their country's and whose remainder is 1 (ISO 13616)."""
    since = 0
    for digit in _IBAN_START.finditer(text):
        start = digit.start() - 2
        length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
        candidate = _IBAN.match(text, start) if length and start >= since else None
        if not candidate:
            continue
        places = [one.start() for one in _ALNUM.finditer(text, start, candidate.end())][:length]
        end = places[-1] + 1
        if len(places) == length and not _ALNUM.match(text, end) and is_iban("".join([text[at] for at in places])):
            since = end
            yield Span(start, end, Kind.IBAN)


def is_iban(value: str) -> bool:
    """Whether the check digits of a compact account number hold (ISO 7064, MOD 97-10)."""
    return (
        "02" <= value[2:4] <= "98"
        and int("".join(str(int(character, 36)) for character in value[4:] + value[:4])) % 97 == 1
    )


def _first(text: str, start: int, at: int, end: int) -> int:
    """Where an address begins whose local part could begin at `start`: after words without a space, and emphasis."""
    if text[at - 1].isascii():
        for unspaced in _UNSPACED.finditer(text, start, at):
            start = unspaced.end()
    if text[end : end + 1] == "_":
        while text[start] == "_" and start < at - 1:
            start += 1
    return start


def _last(text: str, top: int, end: int) -> int:
    """Where an address ends whose top-level domain begins at `top`."""
    unspaced = _UNSPACED.search(text, top + 2, end) if text[top : top + 2].isascii() else None
    return unspaced.start() if unspaced else end


def _opens(text: str, start: int) -> bool:
    before = text[max(0, start - 2) : start]
    if not before or not before[-1].isascii():
        return True
    if before[-1].isalnum() or (before[-1] == "_" and before[:-1].isalnum()):
        return False
    return not (before[-1] == "." and before[:1].isdigit())


def _is_ipv4(text: str) -> bool:
    return all(int(part) <= 255 and (part[0] != "0" or part == "0") for part in text.split("."))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
