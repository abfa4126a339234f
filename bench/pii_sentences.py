"""Sentences of a chat with personal data and with numbers that only look like it; invented, and the same every time.

Nothing here is shared with the engine: check digits are made by their definitions, telephones are written as their
countries write them, and what is a decoy is so by what the sentence says.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID


@dataclass(frozen=True)
class Sentence:
    """A text, and where which kind of personal data is in it."""

    text: str
    spans: tuple[tuple[str, int, int], ...]


Chance = random.Random
Maker = Callable[[Chance], str]


def _digits(chance: Chance, pattern: str) -> str:
    """`pattern` with a digit for each `#`, one of 2 to 9 for each `%`."""
    return "".join(
        str(chance.randint(0, 9)) if sign == "#" else str(chance.randint(2, 9)) if sign == "%" else sign
        for sign in pattern
    )


def _with_luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * 2 if place % 2 == 0 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


def _grouped(digits: str, sizes: list[int], by: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(digits[at : at + size])
        at += size
    return by.join(part for part in parts if part)


def _card(chance: Chance) -> str:
    start, length = chance.choice([("4", 16), ("52", 16), ("2245", 16), ("37", 15), ("6011", 16), ("5061", 16)])
    number = _with_luhn(_digits(chance, start + "#" * (length - len(start) - 1)))
    sizes = [4, 6, 5] if length == 15 else [4, 4, 4, 4]
    return _grouped(number, sizes, chance.choice(["", " ", " ", "-"]))


def _iban(chance: Chance) -> str:
    country, pattern = chance.choice(
        [
            ("DE", "#" * 18), ("GB", "NWBK" + "#" * 14), ("FR", "#" * 23), ("NL", "ABNA" + "#" * 10),
            ("ES", "#" * 20), ("CH", "#" * 17), ("SE", "#" * 20), ("PL", "#" * 24), ("MT", "VALT" + "#" * 5 + "A1" * 9),
        ]
    )  # fmt: skip
    account = _digits(chance, pattern)
    value = int("".join(str(int(sign, 36)) for sign in account + country + "00"))
    number = f"{country}{98 - value % 97:02}{account}"
    if chance.random() < 0.2:
        number = number.lower()
    return _grouped(number, [4] * 9, chance.choice(["", " "]))


def _ssn(chance: Chance) -> str:
    return f"{chance.randint(1, 665):03}-{chance.randint(1, 99):02}-{chance.randint(1, 9999):04}"


def _ip(chance: Chance) -> str:
    if chance.random() < 0.7:
        return ".".join(str(chance.randint(1, 254)) for _ in range(4))
    groups = [f"{chance.randint(0x1000, 0xFFFF):x}" for _ in range(8)]
    return ":".join(groups) if chance.random() < 0.5 else f"2001:db8::{groups[0]}:{groups[1]}"


def _email(chance: Chance) -> str:
    first, last = chance.choice(_NAMES), chance.choice(_NAMES)
    local = chance.choice([f"{first}.{last}", f"{first}{chance.randint(1, 99)}", f"{first}+bets", f"{first[0]}_{last}"])
    domain = chance.choice(["example.com", "mail.example.org", "example.com.ng", "example.co.uk", "büro.example"])
    return f"{local}@{domain}" if chance.random() < 0.8 else f"{local}@{domain}".upper()


_NAMES = ["ada", "chidi", "ngozi", "emeka", "ines", "olu", "marta", "jürgen", "sofía", "kofi", "amina", "liam", "zoë"]

_TELEPHONES = [
    "+234 80% ### ####", "+23480%#######", "080% ### ####", "080%#######", "070%-###-####", "0%1 ### ####",
    "+1 (%##) %##-####", "(%##) %##-####", "%##-%##-####", "%##.%##.####", "1-%##-%##-####", "%##-%##-####x###",
    "+44 7%## ######", "07%## ######", "020 7### ####", "+44 (0)20 7### ####", "01632 96####",
    "+49 30 #######", "030 / ### ## ##", "0151 ########", "+33 6 ## ## ## ##", "06 ## ## ## ##", "01.##.##.##.##",
    "+34 6## ### ###", "+39 06 ########", "+55 (11) 9####-####", "(11) 9####-####", "+91 9#### #####",
    "+27 82 ### ####", "082 ### ####", "+254 7## ######", "+46 70 ### ## ##", "070-### ## ##", "+47 4## ## ###",
    "(+57) 3########", "8 (9%#) ###-##-##", "01-4######", "0%########", "+1 %##\u00a0%##\u00a0####", "(+358) 4########",
    "+234\u2011803\u2011###\u2011####", "0803 - ### - ####", "+61 4## ### ###",
    "0412 ### ###", "+81 90-####-####", "090-####-####", "+41 79 ### ## ##", "0041 79 ### ## ##",
]  # fmt: skip
"""As people of their countries write them: any sentence shows what they are."""

_LOCAL_TELEPHONES = ["%## ####", "%%## ####", "%# ### ###", "%## ### ###", "%#-##-##-##", "%#########", "%######"]
"""Without area or country code: only the sentence shows what they are."""


def _telephone(chance: Chance) -> str:
    return _digits(chance, chance.choice(_TELEPHONES))


def _local_telephone(chance: Chance) -> str:
    return _digits(chance, chance.choice(_LOCAL_TELEPHONES))


def _nino(chance: Chance) -> str:
    number = f"{chance.choice(['AB', 'CE', 'JK', 'PW'])}{_digits(chance, '######')}{chance.choice('ABCD')}"
    return _grouped(number, [2, 2, 2, 2, 1], chance.choice(["", " "]))


def _dni(chance: Chance) -> str:
    number = chance.randint(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _cpf(chance: Chance) -> str:
    digits = [chance.randint(0, 9) for _ in range(9)]
    for _ in range(2):
        rest = sum(digit * weight for digit, weight in zip(digits, range(len(digits) + 1, 1, -1), strict=True)) % 11
        digits.append(0 if rest < 2 else 11 - rest)
    number = "".join(map(str, digits))
    return f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"


_PERSONAL: list[tuple[str, Maker, list[str]]] = [
    (
        "EMAIL", _email,
        ["write to {}, please", "{} is my address", "Contact <{}> about it.", "E-Mail: {}", "mail me ({})"],
    ),
    (
        "CARD", _card,
        ["my card {} was declined", "charge {} again", "I paid with {} yesterday", "Karte {} ist weg", "{}"],
    ),
    ("IBAN", _iban, ["send it to {}", "IBAN: {}", "Meine Kontonummer ist {}.", "pay {} by Friday", "{} is my account"]),
    ("SSN", _ssn, ["my SSN is {}", "social: {}", "The form says {} for her.", "{} is what they have on file"]),
    ("IP", _ip, ["I log in from {}", "the server at {} is down", "{} keeps trying passwords", "ping {} fails"]),
    (
        "PHONE",
        _telephone,
        [
            "call me on {}", "{}", "my number: {}", "Reach him at {} after 5", "Appelez-moi au {}", "Tel. {}",
            "WhatsApp {}?", "I moved, it is {} now", "Meine Nummer ist {}.", "mi teléfono es {}", "sms {} pls",
            "It's Ada, {}, thanks",
        ],
    ),
    (
        "PHONE",
        _local_telephone,
        [
            "call me on {}", "Phone: {}", "They do not answer at {}", "my mobile is {}", "text {} when you arrive",
            "Fax {}", "please ring {} before noon", "you can reach me at {}", "{} (office)",
            "llámame al {}", "Handy: {}",
        ],
    ),
    ("NATIONAL_ID", lambda chance: _digits(chance, "###########"), ["my NIN is {}", "NIN: {}", "BVN {} as requested"]),
    ("NATIONAL_ID", lambda chance: _digits(chance, "%%######-0001"), ["our TIN is {}", "TIN {}", "Tax ID: {}"]),
    ("NATIONAL_ID", lambda chance: _digits(chance, "##########"), ["TIN: {}", "my tax identification number is {}"]),
    ("NATIONAL_ID", lambda chance: _digits(chance, "222########"), ["{} is my BVN", "B.V.N: {}", "bvnNumber={}"]),
    ("NATIONAL_ID", _nino, ["NI number {}", "my insurance no is {}", "{} from my payslip"]),
    ("NATIONAL_ID", _dni, ["mi DNI es {}", "{}, caducado"]),
    ("NATIONAL_ID", _cpf, ["meu CPF: {}", "{} na nota"]),
]  # fmt: skip


def _moment(chance: Chance) -> datetime:
    return datetime(2019, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randint(0, 220_000_000))


def _fails_luhn(chance: Chance) -> str:
    good = _with_luhn(_digits(chance, "4###########"))
    return good[:-1] + str((int(good[-1]) + chance.randint(1, 9)) % 10)


def _bad_card(chance: Chance) -> str:
    good = _with_luhn(_digits(chance, "52#############"))
    return good[:-1] + str((int(good[-1]) + chance.randint(1, 9)) % 10)


_DECOYS: list[tuple[Maker, list[str]]] = [
    (
        lambda c: str(int(_moment(c).timestamp())),
        ["started at {}", "ts={}", "the event came at {} sharp", "{}", "since {}"],
    ),
    (lambda c: str(int(_moment(c).timestamp() * 1000)), ["created {}", "offset {} ms", "\"at\": {}"]),
    (
        lambda c: _digits(c, "%#######"),
        ["order {} is late", "where is order #{}?", "Order no. {}", "invoice {}", "Bestellung {}"],
    ),
    (lambda c: _digits(c, "%##-#######-#######"), ["order {} never came", "Amazon order {}"]),
    (
        lambda c: _digits(c, "%#########"),
        ["account {} is empty", "ref {}", "booking reference {}", "tracking number {}"],
    ),
    (_fails_luhn, ["my id is {}", "{} is the item", "device {}", "customer {}"]),
    (_bad_card, ["the code {} does nothing", "serial {}", "{}"]),
    (
        lambda c: f"{c.randint(1, 999)},{_digits(c, '###,###.##')}",
        ["that costs ${}", "₦{} only", "{} naira", "paid {} in all"],
    ),
    (lambda c: _digits(c, "% ### ###"), ["{} people voted", "a total of {}", "{} euros", "over {} views so far"]),
    (lambda c: _digits(c, "%.###.###"), ["{} habitants", "sold {} units", "Umsatz: {} EUR"]),
    (lambda c: f"{_moment(c):%Y-%m-%d %H:%M:%S}", ["closed {}", "on {} it rained", "call ended {}", "{} UTC"]),
    (lambda c: f"{_moment(c):%d.%m.%Y}", ["am {} war es", "born {}", "until {}"]),
    (lambda c: f"{_moment(c):%d/%m/%Y}-{_moment(c):%d/%m/%Y}", ["open {}", "leave: {}"]),
    (lambda c: f"{_moment(c):%Y%m%d}", ["backup {} is done", "file {}.csv", "report-{}"]),
    (lambda c: f"{_moment(c):%H:%M:%S}", ["at {} sharp", "call me at {}"]),
    (lambda c: f"{c.randint(1990, 2024)}-{c.randint(2025, 2039)}", ["the {} plan", "season {}"]),
    (lambda c: f"978-{_digits(c, '3-16-14####-#')}", ["ISBN {}", "the book {}"]),
    (lambda c: _digits(c, "v%.#.##.###"), ["since {} it crashes", "upgrade to {}"]),
    (lambda c: _digits(c, "%.#.#.##"), ["version {} is out", "firmware {} bricks it"]),
    (lambda c: str(UUID(int=c.getrandbits(128), version=4)), ["market {}", "see {} please", "id={}"]),
    (lambda c: f"{c.getrandbits(160):040x}", ["commit {}", "hash {}"]),
    (lambda c: ":".join(f"{c.randint(0, 255):02x}" for _ in range(6)), ["the router is {}", "MAC {}"]),
    (lambda c: _digits(c, "6.######, 3.######"), ["we are at {}", "GPS {}"]),
    (lambda c: _digits(c, "0.########"), ["odds of {}", "p = {}"]),
    (lambda c: _digits(c, "%####-####"), ["ZIP {}", "Springfield, IL {}"]),
    (lambda c: _digits(c, "%#### %##"), ["they live at {} Bond Street", "deliver to {} Main Rd"]),
    (lambda c: _digits(c, "%-#, #-%, %-%"), ["it went {}", "scores: {}"]),
    (lambda c: f"@{c.choice(_NAMES)}{c.randint(1, 99)}", ["ask {}", "{} said so", "cc {}"]),
    (lambda c: f"icon_{c.randint(1, 9)}@2x.png", ["{} is blurry", "see {}"]),
    (lambda c: f"lodash@{_digits(c, '%.##.#')}", ["install {}", "{} breaks it"]),
    (lambda c: _digits(c, "000-##-####"), ["part {}", "code {}"]),
    (lambda c: _digits(c, "3##.4##.5##.6##"), ["node {}", "key {}"]),
    (lambda c: f"GB00NWBK{_digits(c, '##############')}", ["try {}", "{} is refused"]),
    (lambda c: f"https://example.com/status/{_digits(c, '1%#################')}", ["look: {}", "{} is fun"]),
    (
        lambda c: f"https://example.com/item/{_digits(c, '%########')}?ref={_digits(c, '%#########')}",
        ["bought {}", "{}"],
    ),
    (lambda c: _digits(c, "%##,###"), ["{} signed", "population {}"]),
    (lambda c: _digits(c, "0% 1# 2# 3# 3# 4#"), ["drawn: {}", "{} won"]),
    (lambda c: _digits(c, "1### 1### 1### 1### 1###"), ["the table says {}", "{}"]),
    (lambda c: _digits(c, "%#######_%###"), ["run_{}", "batch_{}"]),
    (lambda c: "".join(c.choice(_BASE58) for _ in range(44)), ["mint {}", "{} has the tokens", "pay to {}"]),
    (lambda c: f"+{_digits(c, '%#')}%", ["up {} today", "{} since May"]),
    (lambda c: f"{c.randint(8, 12)}-{c.randint(13, 18)}", ["call between {}", "office hours {}"]),
    (lambda c: f"0{c.randint(8, 9)}00-1{c.randint(3, 8)}00", ["call us {}", "phone line open {}"]),
]  # fmt: skip

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

_CHATTER = [
    "ok", "thanks a lot!", "see you at 5", "the market closes on Friday", "I think it is 50/50", "lol", "why 3 times?",
    "Bonjour, j'ai une question", "Guten Tag", "¿cuándo cierra?", "mañana", "how do I claim my winnings?", "got it 👍",
    "the odds moved from 0.42 to 0.57", "my team won 3-1", "abeg check am for me", "E don do", "what happens next?",
    "I waited 20 minutes", "please explain: what is a dispute window?", "the page says 404", "gm", "yes, since Monday",
]  # fmt: skip


def sentences(count: int, seed: int = 45) -> list[Sentence]:
    """`count` sentences: a third with personal data, a third with decoys, a sixth with both, a sixth with neither."""
    chance = random.Random(seed)
    return [_sentence(chance) for _ in range(count)]


def chat(characters: int, seed: int = 46) -> list[str]:
    """About `characters` of everyday chat: one message in twenty has personal data, one in ten a decoy."""
    chance = random.Random(seed)
    made: list[str] = []
    while characters > 0:
        kind = chance.random()
        parts = [chance.choice(_CHATTER) for _ in range(chance.randint(2, 5))]
        if kind < 0.05:
            parts.append(_personal(chance)[1])
        elif kind < 0.15:
            parts.append(_decoy(chance))
        made.append(". ".join(parts))
        characters -= len(made[-1])
    return made


def _sentence(chance: Chance) -> Sentence:
    wanted = chance.choice(["personal", "personal", "decoy", "decoy", "both", "neither"])
    text, spans = "", []
    if wanted in ("decoy", "both"):
        text += _decoy(chance) + chance.choice([". ", ", and ", "; ", "\n"])
    if wanted in ("personal", "both"):
        kind, said, value = _personal(chance)
        at = len(text) + said.index(value)
        spans.append((kind, at, at + len(value)))
        text += said
    if wanted == "neither" or chance.random() < 0.3:
        text += chance.choice([". ", "\n", " - "]) + chance.choice(_CHATTER)
    return Sentence(text, tuple(spans))


def _personal(chance: Chance) -> tuple[str, str, str]:
    wanted = chance.choice([*sorted({kind for kind, _, _ in _PERSONAL}), "PHONE"])
    kind, make, sayings = chance.choice([one for one in _PERSONAL if one[0] == wanted])
    value = make(chance)
    return kind, chance.choice(sayings).format(value), value


def _decoy(chance: Chance) -> str:
    make, sayings = chance.choice(_DECOYS)
    return chance.choice(sayings).format(make(chance))
