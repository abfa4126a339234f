"""Which URLs and addresses a source may have: the refusals that need no network."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.fetch import is_public
from domain.source_urls import check_url


@pytest.mark.parametrize(
    "url",
    [
        "https://api.stlouisfed.org/fred/series/observations?series_id=DGS10&file_type=json",
        "https://www.metaculus.com/questions/21531/",
        "https://en.wikipedia.org:443/wiki/FIDE_rankings#Top_players",
        "HTTPS://EN.WIKIPEDIA.ORG/wiki/FIDE_rankings",
        "https://bücher.de/liste",
        "https://xn--bcher-kva.de",
        "https://bit.ly.example.org/page",
        "https://notbit.ly.com/",
        "https://1.example.org/",
    ],
)
def test_ordinary_public_pages_are_accepted(url: str) -> None:
    assert check_url(url) is None


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("http://en.wikipedia.org/wiki/FIDE_rankings", "'http'"),
        ("ftp://example.org/file", "'ftp'"),
        ("file:///etc/passwd", "'file'"),
        ("//example.org/", "scheme"),
        ("example.org", "scheme"),
        ("", "scheme"),
        ("https://user:secret@example.org/", "user name"),
        ("https://user@example.org/", "user name"),
        ("https://en.wikipedia.org\\@evil.org/", "user name"),
        ("https://example.org:8443/", "8443"),
        ("https://example.org:80/", "80"),
        ("https://example.org:99999/", "99999"),
        ("https://example.org:port/", "cannot be read"),
        ("https:///path", "host"),
        ("https:example.org", "host"),
        ("https://localhost/", "localhost"),
        ("https://LOCALHOST/", "localhost"),
        ("https://metadata.google.internal/", "metadata.google.internal"),
        ("https://printer.local/", "printer.local"),
        ("https://host.docker.internal/", "host.docker.internal"),
        ("https://router.home.arpa/", "router.home.arpa"),
        ("https://a.test/", "a.test"),
        ("https://service/", "service"),
        ("https://localhost./", "localhost."),
        ("https://example.org./", "example.org."),
        ("https://a..b.org/", "a..b.org"),
        ("https://-a.org/", "-a.org"),
        ("https://a_b.org/", "a_b.org"),
        ("https://exa mple.org/", "host"),
        ("https://ex%61mple.org/", "host"),
        ("https://example.org%2eevil.org/", "host"),
        (f"https://{'a' * 64}.org/", "host"),
        (f"https://{'a.' * 130}org/", "host"),
        ("https://example.org/\n", "cannot be read"),
        ("https://example.org/\x00", "cannot be read"),
        (f"https://example.org/{'a' * 2_000}", "at most 2000"),
        ("https://bit.ly/3xyz", "bit.ly"),
        ("https://www.tinyurl.com/abc", "tinyurl.com"),
        ("https://t.co/abc", "t.co"),
    ],
)
def test_a_refused_url_is_answered_with_what_is_wrong(url: str, names: str) -> None:
    why = check_url(url)
    assert why is not None
    assert names in why
    assert why.endswith(".")


def test_a_refusal_does_not_repeat_a_password() -> None:
    assert "secret" not in (check_url("https://user:secret@example.org/") or "")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "8.8.8.8",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0",
        "127.0.0.1.",
        "127。0。0。1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[fe80::1%25eth0]",
        "[2606:4700:4700::1111]",
    ],
)
def test_a_host_is_a_name_never_an_address(host: str) -> None:
    why = check_url(f"https://{host}/")
    assert why is not None
    assert re.search(r"IP(v4)? address", why)


PUBLIC = ["8.8.8.8", "93.184.215.14", "151.101.1.67", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::5"]

# The IANA special-purpose registries (IPv4, IPv6), cloud metadata, and the ranges beside them.
SPECIAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.0.1", "169.254.169.254", "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8",
    "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::2", "100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:3::1", "2001:10::1", "2001:20::1",
    "2001:30::1", "2001:db8::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%2", "fec0::1", "ff02::1", "4000::1", "64:ff9b:1::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_connected_to(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_may_not(address: str) -> None:
    assert not is_public(address)


def _embed(prefix: str, v4: int, shift: int) -> str:
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | v4 << shift))


FORMS = {
    "mapped": lambda v4: _embed("::ffff:0:0", v4, 0),
    "compatible": lambda v4: _embed("::", v4, 0),
    "translated": lambda v4: _embed("::ffff:0:0:0", v4, 0),
    "NAT64": lambda v4: _embed("64:ff9b::", v4, 0),
    "local NAT64": lambda v4: _embed("64:ff9b:1::", v4, 0),
    "6to4": lambda v4: _embed("2002::", v4, 80),
    "Teredo server": lambda v4: _embed("2001::", v4, 64),
    "Teredo client": lambda v4: _embed("2001::", v4 ^ 0xFFFFFFFF, 0),
}


@given(v4=st.ip_addresses(v=4), form=st.sampled_from(sorted(FORMS)))
def test_no_ipv6_form_carries_an_ipv4_address_past_the_check(v4: ipaddress.IPv4Address, form: str) -> None:
    assert not is_public(FORMS[form](int(v4)))


@given(address=st.ip_addresses())
def test_what_python_knows_as_not_global_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert address.is_global or not is_public(str(address))
