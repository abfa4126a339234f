"""Redaction: what is found, what only looks like it, tokens that link and do not tell, and time that stays linear."""

import re
import time
import timeit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.pii import Found, scores
from bench.pii_sentences import sentences
from deploy.local.data import load_questions
from domain.redaction import ExtraPattern, Finding, Redactor

KEY = b"sixteen bytes or more"
REDACTOR = Redactor(KEY)
TOKEN = re.compile(r"\[[A-Z_]+:[0-9a-f]{10}\]")


def found(text: str, redactor: Redactor = REDACTOR) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in redactor.redact(text).findings]


def token(text: str, redactor: Redactor = REDACTOR) -> str:
    (made,) = TOKEN.findall(redactor.redact(text).text)
    return str(made)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to ada.lovelace+bets@mail.example.co.uk.", "EMAIL", "ada.lovelace+bets@mail.example.co.uk"),
        ("'bob@example.com' said", "EMAIL", "bob@example.com"),
        ("o'brien@example.ie", "EMAIL", "o'brien@example.ie"),
        ("jürgen@büro.example", "EMAIL", "jürgen@büro.example"),
        ("mailto:a@b.example?x", "EMAIL", "a@b.example"),
        ("pay with 4111 1111 1111 1111 12/26 123", "CARD", "4111 1111 1111 1111"),
        ("3782-822463-10005", "CARD", "3782-822463-10005"),
        ("Verve 5061240000000000015", "CARD", "5061240000000000015"),
        ("card 9999 9999 9999 9995", "CARD", "9999 9999 9999 9995"),
        ("078-05-1120", "SSN", "078-05-1120"),
        ("my SSN is 078 05 1120", "SSN", "078 05 1120"),
        ("social security number 078051120", "SSN", "078051120"),
        ("GB29 NWBK 6016 1331 9268 19 is mine", "IBAN", "GB29 NWBK 6016 1331 9268 19"),
        ("iban gb29nwbk60161331926819", "IBAN", "gb29nwbk60161331926819"),
        ("MT84MALT011000012345MTLCAST001S", "IBAN", "MT84MALT011000012345MTLCAST001S"),
        ("from 192.168.10.254:8080", "IP", "192.168.10.254"),
        ("2001:db8::8a2e:370:7334 and", "IP", "2001:db8::8a2e:370:7334"),
        ("::ffff:203.0.113.9", "IP", "::ffff:203.0.113.9"),
        ("I am at fe80::1", "IP", "fe80::1"),
        ("My NIN is 12345678901", "NATIONAL_ID", "12345678901"),
        ("national identification number: 1234 5678 901", "NATIONAL_ID", "1234 5678 901"),
        ("TIN 12345678-0001", "NATIONAL_ID", "12345678-0001"),
        ("the company has 12345678-0001", "NATIONAL_ID", "12345678-0001"),
        ("tax id 1234567890", "NATIONAL_ID", "1234567890"),
        ("AB 12 34 56 C", "NATIONAL_ID", "AB 12 34 56 C"),
        ("DNI 12345678Z", "NATIONAL_ID", "12345678Z"),
        ("RSSMRA85T10A562S", "NATIONAL_ID", "RSSMRA85T10A562S"),
        ("529.982.247-25", "NATIONAL_ID", "529.982.247-25"),
        ("GHA-123456789-1", "NATIONAL_ID", "GHA-123456789-1"),
        ("+234 803 123 4567", "PHONE", "+234 803 123 4567"),
        ("0803-123-4567", "PHONE", "0803-123-4567"),
        ("08031234567", "PHONE", "08031234567"),
        ("2348031234567", "PHONE", "2348031234567"),
        ("https://wa.me/2348031234567", "PHONE", "2348031234567"),
        ("(212) 555-0123 ext. 12", "PHONE", "(212) 555-0123 ext. 12"),
        ("345-899-3560x4587", "PHONE", "345-899-3560x4587"),
        ("+44 (0)20 7946 0958", "PHONE", "+44 (0)20 7946 0958"),
        ("001-518-640-0854", "PHONE", "001-518-640-0854"),
        ("030 / 123 45 67", "PHONE", "030 / 123 45 67"),
        ("01.84.17.61.18", "PHONE", "01.84.17.61.18"),
        ("call me on 467 3395 7 days a week", "PHONE", "467 3395"),
        ("Phone:\n4673395", "PHONE", "4673395"),
        ("my number is 512 345 678", "PHONE", "512 345 678"),
        ("467 3395 is my new number", "PHONE", "467 3395"),
        ("416 60 039 (office)", "PHONE", "416 60 039"),
        ("10.0.0.1-", "IP", "10.0.0.1"),
        ("我的电话是13812345678", "PHONE", "13812345678"),
        ("王丹 - 13812345678", "PHONE", "13812345678"),
        # Right after a word, in emphasis as chats have it, in scripts without spaces.
        ("ip:2001:db8::8a2e:370:7334", "IP", "2001:db8::8a2e:370:7334"),
        ('{"ipv6":"fe80::1"}', "IP", "fe80::1"),
        ("it is :fe80::1", "IP", "fe80::1"),
        ("from 2001:db8::1: timed out", "IP", "2001:db8::1"),
        ("IP地址192.168.1.1是", "IP", "192.168.1.1"),
        ("_ada@example.com_", "EMAIL", "ada@example.com"),
        ("我的邮箱是ada@example.com谢谢", "EMAIL", "ada@example.com"),
        ("_4111 1111 1111 1111_", "CARD", "4111 1111 1111 1111"),
        ("12:00:05 0803 123 4567", "PHONE", "0803 123 4567"),
        ("2026-01-31 020 7946 0958", "PHONE", "020 7946 0958"),
        ("*0803 123 4567*", "PHONE", "0803 123 4567"),
        ("*555*08031234567#", "PHONE", "08031234567"),
        ("https://example.com/u/08031234567?a=1", "PHONE", "08031234567"),
        # As they are written where their senders live.
        ("(+57)3057143217 is it", "PHONE", "(+57)3057143217"),
        ("(+234) 803 123 4567", "PHONE", "(+234) 803 123 4567"),
        ("0803 - 123 - 4567", "PHONE", "0803 - 123 - 4567"),
        ("0803/123/4567", "PHONE", "0803/123/4567"),
        ("01-4618000", "PHONE", "01-4618000"),
        ("0587143217", "PHONE", "0587143217"),
        ("8 (714) 321-78-53", "PHONE", "8 (714) 321-78-53"),
        ("06-35/883 2788", "PHONE", "06-35/883 2788"),
        ("123-456-7890", "PHONE", "123-456-7890"),
        ("phoneNumber: 4673395", "PHONE", "4673395"),
        ("The number is 2257456789.", "PHONE", "2257456789"),
        ("4673395012 keeps calling me", "PHONE", "4673395012"),
        ("Maestro 060445315363", "CARD", "060445315363"),
        ("060445315363", "CARD", "060445315363"),
        ("4111  1111  1111  1111", "CARD", "4111  1111  1111  1111"),
        ("41111111 11111111", "CARD", "41111111 11111111"),
        ("DE89.3704.0044.0532.0130.00", "IBAN", "DE89.3704.0044.0532.0130.00"),
        ("social 078 05 1120", "SSN", "078 05 1120"),
        ("078 - 05 - 1120", "SSN", "078 - 05 - 1120"),
        ("N.I.N: 12345678901", "NATIONAL_ID", "12345678901"),
        ("ninNumber=12345678901", "NATIONAL_ID", "12345678901"),
        ("12345678901 is my NIN", "NATIONAL_ID", "12345678901"),
        ("the NIN that I was given last year: 12345678901", "NATIONAL_ID", "12345678901"),
        ("Bank verification number 22212345678", "NATIONAL_ID", "22212345678"),
        ("vNIN YV111222334455KO", "NATIONAL_ID", "YV111222334455KO"),
        # Broken by the end of a line.
        ("4111 1111\n1111 1111", "CARD", "4111 1111\n1111 1111"),
        ("4111-1111-\r\n1111-1111", "CARD", "4111-1111-\r\n1111-1111"),
        ("DE89 3704 0044\n0532 0130 00", "IBAN", "DE89 3704 0044\n0532 0130 00"),
        ("+234 803\n123 4567", "PHONE", "+234 803\n123 4567"),
        ("0803 123\u20284567", "PHONE", "0803 123\u20284567"),
        ("+44 20 7946 0958\n12 Main Street", "PHONE", "+44 20 7946 0958"),
        ("4111 1111 1111 1111\n110", "CARD", "4111 1111 1111 1111"),
        ("4111\n1111\n1111\n1111", "CARD", "4111\n1111\n1111\n1111"),
        # As HTML, addresses on the web and JSON within a text write them.
        ("ada&#64;example.co&#109;!", "EMAIL", "ada&#64;example.co&#109;"),
        ("&lt;ada&commat;example&period;com&gt;", "EMAIL", "ada&commat;example&period;com"),
        ("?mail=ada%40example.com&x=1", "EMAIL", "ada%40example.com"),
        ("?tel=%2B2348031234567", "PHONE", "%2B2348031234567"),
        ("4111&nbsp;1111&nbsp;1111&nbsp;1111", "CARD", "4111&nbsp;1111&nbsp;1111&nbsp;1111"),
        ('{\\"phone\\":\\"\\u002b2348031234567\\"}', "PHONE", "\\u002b2348031234567"),
        ("line\\n08031234567", "PHONE", "08031234567"),
    ],
)
def test_personal_data_is_found_to_the_character(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "started at 1730483820",
        "call ended 1730483820123",
        "order number 4673395, please call",
        "where is order #46733951?",
        "Amazon order 619-7014382-3861840",
        "the item 4006381333931",
        "4111 1111 1111 1112",
        "₦1,234,567.00 and $4673395",
        "I called about 4 500 000 naira",
        "I called about 4673395 yesterday",
        "call us about 467 3395 points",
        "call [PHONE:2125550123]",
        f"{'a' * 65}@example.com",
        "Umsatz: 1.234.567 EUR",
        "call between 0900-1700 on 2026-01-31 14:30:00 or 31.01.2026",
        "phone line open 2024-2026",
        "ISBN 978-3-16-148410-0",
        "550e8400-e29b-41d4-a716-446655440000",
        "https://example.com/status/1730483820123456789",
        "version 1.2.3.4, v1.2.3.4, 256.1.1.1, 1.2.3.4.5",
        "12:30:45 std::cout 00:1b:44:11:3a:b7",
        "icon@2x.png lodash@4.17.21 @ada ada@localhost",
        "000-12-3456 666-12-3456 123-45-0000",
        "GB00NWBK60161331926819",
        "GB29NWBK60161331926818",
        "12345678A AB123456X 529.982.247-26",
        "they live at 17151 2450 Crown St, ZIP 12345-6789",
        "ID12345678901 and 12345678901abc",
        "12345678901",
        "3... 2... 1... it was 50/50",
        "at 0.0719193685 or 0.049171569958141",
        "https://example.com/will-bitcoin-reach-140000-by-december-31-2025-258-893",
        "draws: 04 06 34 44 35 26, then 12 01 39 10 04 29",
        "1714 6199 2547 1895 8677",
        "order_08031234567 id_4111111111111111 x-08031234567",
        "₦08031234567",
        "A/C 0123456789",
        "N1234567 a::b:c host::1",
        "4111\n1111\n1111\n1111\n5011",
        "2024\n4111\n1111\n1111\n1111",
        "0803\n123\n4567",
        "2024-06-01\n2025-07-02",
        "+250\n-110\n+1305",
        "20%402 R&D; a&b; C:\\new\\report 50%25",
        "the magic number 2257456789",
        "2026-01-31T14:30:00.000-01:00 and 14:30:01.123-0800",
        "2026-06-01 08:00:00 - 2026-06-02 09:00:00, 14:00:00-05:00  2011-05",
        "2026-01-31 14-30-00-0800, 31/01/2026 143000-0800",
        "commit fddba1840c",
        "his NIN was refused at 1730483820",
        "",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert REDACTOR.redact(text) == (text, ())


def test_questions_about_the_world_hold_nothing() -> None:
    texts = [text for one in load_questions() for text in (one.question, one.background, one.criteria)]
    assert [text for text in texts if REDACTOR.redact(text).findings] == []


def test_many_in_one_text_are_found_from_left_to_right() -> None:
    text = "Mobile: 467 3395 or 468 1122\nDesk: (37) 788-063-Office, ada@example.com; 10.0.0.1, 078-05-1120"
    redacted = REDACTOR.redact(text)
    assert [one.kind for one in redacted.findings] == ["PHONE", "PHONE", "PHONE", "EMAIL", "IP", "SSN"]
    assert TOKEN.sub("*", redacted.text) == "Mobile: * or *\nDesk: *-Office, *; *, *"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("08031234567,08098765432", ["PHONE", "PHONE"]),
        ("call 08031234567/08098765432", ["PHONE", "PHONE"]),
        ("0803 123 4567/0809 876 5432", ["PHONE", "PHONE"]),
        ("4111111111111111,5500000000000004", ["CARD", "CARD"]),
        ("10.0.0.1-10.0.0.9", ["IP", "IP"]),
        ("a@example.com,b@example.com;c@example.com", ["EMAIL", "EMAIL", "EMAIL"]),
        ("078-05-1120 078-05-1121", ["SSN", "SSN"]),
        ("GB29NWBK60161331926818 GB29NWBK60161331926819 GB29NWBK60161331926819", ["IBAN", "IBAN"]),
    ],
)
def test_lists_are_found_one_by_one(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in found(text)] == kinds


def test_an_extension_is_no_beginning_of_the_next() -> None:
    assert found("call 078-05-11207x 020532 0130 00")[0] == ("PHONE", "078-05-11207x 020532")
    assert TOKEN.sub("*", REDACTOR.redact("call 078-05-11207x 020532 0130 00").text) == "call * 0130 00"


def test_one_that_hides_another_hides_it_no_longer_than_one_reading() -> None:
    text = "ada@example.com 12345678Z-GB29NWBK60161331926819, GB29NWBK60161331926818 4111111111111111"
    assert found(text) == [
        ("EMAIL", "ada@example.com"),
        ("NATIONAL_ID", "12345678Z"),
        ("IBAN", "GB29NWBK60161331926819"),
        ("CARD", "4111111111111111"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ADA@example.com", "ada@EXAMPLE.com"),
        ("4111111111111111", "4111-1111-1111-1111"),
        ("GB29 NWBK 6016 1331 9268 19", "gb29nwbk60161331926819"),
        ("+44 (0)20 7946 0958", "0044 20 7946 0958"),
        ("2001:db8:0:0::1", "2001:DB8::1"),
        (
            "4111 1111 1111 1111",
            "\uff14\uff11\uff11\uff11\u00a0\uff11\uff11\uff11\uff11\u3000\uff11\uff11\uff11\uff11 1111",
        ),
        ("08031234567", "٠٨٠٣١٢٣٤٥٦٧"),
    ],
)
def test_one_value_has_one_token_however_it_is_written(one: str, other: str) -> None:
    assert token(one) == token(other)


def test_tokens_need_the_key_and_differ_by_kind_and_value() -> None:
    other = Redactor(b"another key, as long")
    assert token("ada@example.com") != token("ada@example.com", other)
    assert token("ada@example.com") != token("bob@example.com")
    assert token("NIN 08031234567")[-11:] != token("call 08031234567")[-11:]
    with pytest.raises(ValueError, match="PII_HASH_KEY has 15 bytes and needs 16"):
        Redactor(b"fifteen bytes..")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4111\u200b1111\u200d1111\ufeff1111!", "4111\u200b1111\u200d1111\ufeff1111"),
        ("jose\u0301@example.com", "jose\u0301@example.com"),
        ("4\u03361\u03361\u03361 1111 1111 1111", "4\u03361\u03361\u03361 1111 1111 1111"),
        ("call 0803\u00b7123\u00b74567", "0803\u00b7123\u00b74567"),
        ("\uff10\uff18\uff10\u30fc\uff11\uff12\uff13\uff14\u30fc\uff15\uff16\uff17\uff18",) * 2,
        ("\u200bada\u00ad@exam\u2060ple.com\u200b", "ada\u00ad@exam\u2060ple.com"),
        (
            "call \uff10\uff18\uff10\uff13\u00a0\uff11\uff12\uff13\u202f\uff14\uff15\uff16\uff17",
            "\uff10\uff18\uff10\uff13\u00a0\uff11\uff12\uff13\u202f\uff14\uff15\uff16\uff17",
        ),
        (
            "\uff41\uff44\uff41\uff20\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff43\uff4f\uff4d",
            "\uff41\uff44\uff41\uff20\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff43\uff4f\uff4d",
        ),
        ("هاتف ٤٦٧ ٣٣٩٥", "٤٦٧ ٣٣٩٥"),
        ("0803\u2011123\u20134567", "0803\u2011123\u20134567"),
        ("👨\u200d👩\u200d👧 0️⃣8️⃣0️⃣31234567", "0️⃣8️⃣0️⃣31234567"),
    ],
)
def test_disguises_do_not_help(text: str, value: str) -> None:
    ((_, got),) = found(text)
    assert got.strip("\ufe0f\u20e3") == value.strip("\ufe0f\u20e3")
    assert TOKEN.search(REDACTOR.redact(text).text)


def test_an_operators_patterns_are_found_beside_the_engines() -> None:
    redactor = Redactor(KEY, [ExtraPattern("MATRIC_NO", r"\bMAT/\d{4}/\d{3}\b"), ExtraPattern("DESK", r"desk \d+")])
    assert redactor.kinds[-2:] == ("MATRIC_NO", "DESK")
    assert found("MAT/2019/123 ada@example.com", redactor) == [
        ("MATRIC_NO", "MAT/2019/123"),
        ("EMAIL", "ada@example.com"),
    ]
    assert found("desk 08031234567", redactor) == [("DESK", "desk 08031234567")]
    assert redactor.version != REDACTOR.version


def test_of_two_that_overlap_the_earlier_wins_then_the_longer() -> None:
    redactor = Redactor(KEY, [ExtraPattern("A", "bcd"), ExtraPattern("B", "cdefgh"), ExtraPattern("C", "bcde")])
    assert found("abcdefgh", redactor) == [("C", "bcde")]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (ExtraPattern("BAD", "(unclosed"), "PII pattern BAD cannot be used: .*is not RE2.*correct it"),
        (ExtraPattern("BACK", r"(a)\1"), "PII pattern BACK cannot be used"),
        (ExtraPattern("EMPTY", "x*"), "PII pattern EMPTY matches an empty text"),
        (ExtraPattern("lower", "x"), "PII pattern 'lower' has no name for tokens"),
    ],
)
def test_a_bad_pattern_is_refused_with_a_sentence(extra: ExtraPattern, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Redactor(KEY, [ExtraPattern("GOOD", "x"), extra])


PIECES = st.sampled_from(
    [
        "ada@example.com", "4111111111111111", "4111 1111", "078-05-1120", "GB29 NWBK 6016 1331 9268 19", "10.0.0.1",
        "2001:db8::1", "467 3395", "4673395", "08031234567", "+234 803", "123 4567", "(37) 788-063", "12345678901",
        "12345678Z", "12345678-0001", "call", "phone", "my number is", "order", "NIN", "TIN", "SSN", "office", "or",
        "is my number", "NIN", "to", "&#64;", "%40", "\\n", "\\u0040", "\u0301", "_", "*", "\r\n", " - ", " ", " ",
        "-", ".", ":", "\n", "+", "(", ")", "/", "@", "x", "#", "[", "]", "7", "\u200b", "\0",
        "[PHONE:2125550123]",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join)))
@example("467 3395 order 4673395 [PHONE:2125550123] or 4673396")
@example("078-05-1120-467 3395")
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = REDACTOR.redact(text)
    assert REDACTOR.redact(once.text) == (once.text, ())


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_the_findings_say_where_each_token_came_from(text: str) -> None:
    redacted = REDACTOR.redact(text)
    kept, done = [], 0
    for one in redacted.findings:
        assert done <= one.start < one.end
        kept.append(text[done : one.start])
        done = one.end
    parts = re.split("|".join(re.escape(part) for part in TOKEN.findall(redacted.text)) or "$^", redacted.text)
    assert "".join([*kept, text[done:]]).replace("[PHONE:2125550123]", "") == "".join(parts)


def test_a_finding_has_no_value() -> None:
    assert REDACTOR.redact("to ada@example.com").findings == (Finding("EMAIL", 3, 18),)


def test_invented_sentences_are_read_nearly_without_a_slip() -> None:
    def find(text: str) -> list[Found]:
        return [(str(one.kind), one.start, one.end) for one in REDACTOR.redact(text).findings]

    by_kind = scores(sentences(1_000), find)
    assert by_kind["all"]["f1"] >= 0.97
    assert all(by_kind[kind]["recall"] >= 0.99 for kind in ("CARD", "IBAN", "EMAIL", "SSN", "IP"))


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "12 ",
        "1-",
        "(1)",
        "a@",
        "@",
        "a.",
        "1:",
        ":",
        "a",
        "GB29 ",
        "A1",
        "[A:1",
        "1\u200b",
        "call 467 3395 ",
        "1a ",
        "1\n",
        "&#64;",
        "1\u0301",
        "11 ",
        "0803 - ",
    ],
)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    def seconds(count: int) -> float:
        text = piece * count + "4111111111111111 @"
        return min(timeit.repeat(lambda: REDACTOR.redact(text), timer=time.process_time, repeat=2, number=1))

    assert seconds(4_000) < max(seconds(500), 0.001) * 8 * 2
