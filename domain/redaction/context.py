"""What the words before a number say it is: a telephone, an identity number, or a thing such as an order.

Numbers with seven to thirteen digits and no check digit look alike. People say what theirs is, nearly always just
before it, so the nearest word with a meaning decides.
"""

import re
from enum import Enum
from typing import NamedTuple

from domain.redaction.kinds import Kind, Span

REACH = 72
"""Characters before a number whose words may say what it is."""


class Label(Enum):
    """What a word says of the number after it."""

    PHONE = "phone"
    NATIONAL_ID = "national id"
    SSN = "ssn"
    CARD = "card"
    NUMBER = "number"
    """A number, unsaid of what."""
    THING = "thing"
    """An order, an amount, a version: no person's."""


class Context(NamedTuple):
    """The nearest word with a meaning; `adjacent`: nothing but filling words between it and the number."""

    label: Label | None
    adjacent: bool


def _words(rows: str) -> frozenset[str]:
    return frozenset(rows.split())


_PHONE = _words("""
    phone phones telephone telephones tel tél telef telefon telefoon telefono teléfono telefone téléphone telefonnummer
    rufnummer mobile mobiles mobil móvil movil celular cel cell cellphone cellular handy portable landline hotline
    helpline fax telefax desk office switchboard whatsapp watsapp telegram signal viber sms imessage voicemail call
    calls called calling caller callback dial dialed dialled dialing dialling ring rang ringing text texts texted
    texting message messages messaging messaged answer answers answering answered pick picking contact contacts reach
    reachable reached line lines anrufen ruf anruf appel appeler appelez joindre joignable llamar llame llamame llámame
    llamada llamadas contacto contactar chiamare chiamami chiamata cellulare recapito ligar ligue contato telemóvel
    telemovel ramal bel bellen ring ringa telefonnummer puhelin puhelinnumero telefonszám foonu waya lambar ekwentị
    simu namba zadzwoń komórka ph mob tlf tfn gsm wa телефон тел моб звоните позвоните هاتف جوال اتصل फ़ोन मोबाइल
""")
_NATIONAL_ID = _words("""
    nin bvn tin vnin nimc firs jtb identity identification aadhaar aadhar uidai pan pesel bsn cpf rut dni nie nif cnp
    personnummer personnumero fødselsnummer fodselsnummer cpr hetu oib jmbg egn steuerid steuernummer steueridnr idnr
    steueridentifikationsnummer insee nino curp rfc ssnit ahv avs itin nric fin nhs taxid taxpayer nationalid
    citizenship
""")
_THING = _words("""
    order orders ordered invoice inv receipt account acct acc iban tracking track parcel package shipment waybill
    reference ref ticket tickets booking reservation pnr case serial model sku item items product products part parts
    zip zipcode postcode postal plz po box id ids uid uuid guid transaction txn trx payment payments amount amounts
    total totals subtotal price prices priced cost costs paid pay pays balance sum budget revenue usd ngn eur gbp cad
    aud inr kes ghs zar jpy naira dollars euros pounds euro dollar rs license licence passport policy claim batch
    version versions ver build release revision isbn issn ean upc gtin barcode imei imsi iccid timestamp timestamps
    epoch unix ts session port ports page pages population score scores code codes pin otp password passcode token vat
    contract flight seat room lot meter vin chassis hash commit job pid process error bug docket patent permit weight
    height distance salary votes followers views downloads row rows record records entry nonce offset
    bytes size length width count quantity qty stock inventory article doi arxiv pmid rfcs section chapter figure
    pedido factura commande facture colis bestellung bestellnummer rechnung rechnungsnummer kundennummer pacco ordine
    fattura encomenda fatura zamówienie zamowienie faktura siret siren index ratio rate lat lon latitude longitude
    coordinates gps born birth birthday dob date dated
""")
_FILLING = _words("""
    number numbers no nr num numero número numéro nummer nos n is was are be as at on to of for from in the a an my your
    his her our their its it s me us him them this that new old main current correct following registered via by using
    with please just also now still again not today tomorrow tonight asap anytime directly back up out here under
    through digits below always only bei am à au le la al el il mi mon meine unter auf sur su en em no sa o
    """)
_OWNED = _words("my your his her our their whose mi mon meine minha meu mio")
_PLAIN = _words("the this that these a new old another same wrong right correct following other to from")
"""Between them and a number called so nothing says of what it is."""
_NUMBER = _words("number numbers no nr num numero número numéro nummer digits")
_LABELS = (
    dict.fromkeys(_THING, Label.THING)
    | dict.fromkeys(_PHONE, Label.PHONE)
    | dict.fromkeys(_NATIONAL_ID, Label.NATIONAL_ID)
    | dict.fromkeys(
        _words("card cards visa mastercard maestro amex verve debit credit carte karte tarjeta carta cartão"),
        Label.CARD,
    )
    | {"ssn": Label.SSN, "ssns": Label.SSN, "social": Label.SSN}
)
_BEFORE = {
    ("social", "security"): Label.SSN,
    ("national", "id"): Label.NATIONAL_ID,
    ("tax", "id"): Label.NATIONAL_ID,
    ("citizen", "id"): Label.NATIONAL_ID,
    ("national", "insurance"): Label.NATIONAL_ID,
    ("tax", "number"): Label.NATIONAL_ID,
    ("national", "number"): Label.NATIONAL_ID,
    ("bank", "verification"): Label.NATIONAL_ID,
    ("a", "c"): Label.THING,
}
"""Two words that mean together what neither does alone."""
_SPELLED = {"nin": Label.NATIONAL_ID, "bvn": Label.NATIONAL_ID, "tin": Label.NATIONAL_ID, "ssn": Label.SSN}
"""Words that are also written as letters: N.I.N."""

_WORD = re.compile(r"[^\W\d_]+")
_LAST_DIGIT = re.compile(r".*\d", re.DOTALL)
_UNSPACED = re.compile("电话|電話|手机|手機|携帯|전화|휴대폰|โทร")
"""Telephone in scripts that put no space between words."""
NONE = Context(None, False)
AFTER_PHONE = Context(Label.PHONE, True)
AFTER_NATIONAL_ID = Context(Label.NATIONAL_ID, True)
_JOINED = _words("or and oder und ou et o y e alternatively else then to not with")


def context_of(text: str, start: int, since: Span | None) -> Context:
    """What the words before `start` say, on its line, or on the line above when nothing stands before it.

    Words do not reach across what was found before (`since`, or \\0 in `text`, \\1 where it was a telephone), so that
    replacing what was found never changes what is found next.
    """
    begin = max(0, start - REACH)
    phone = identity = False
    if since and since.end >= begin:
        begin, phone, identity = since.end, since.kind == Kind.PHONE, since.kind == Kind.NATIONAL_ID
    before = text[begin:start]
    above = before.rstrip(" \r\n:>*|-")
    if "\n" in before[len(above) :]:
        before = above
    cut = max(before.rfind("\0"), before.rfind("\1"), before.rfind("\n"))
    if cut >= 0:
        phone, identity = before[cut] == "\1", False
    segment = before[cut + 1 :]
    words = _WORD.findall(segment.lower())
    if (phone or identity) and len(words) <= 2 and _JOINED.issuperset(words):
        return AFTER_PHONE if phone else AFTER_NATIONAL_ID if words else NONE
    number = _LAST_DIGIT.match(segment)
    return _nearest(words, len(_WORD.findall(segment, number.end())) if number else len(words))


def _label(words: list[str], place: int) -> Label | None:
    """What the word at `place` says, with those before it where they belong together."""
    word = words[place]
    label = _BEFORE.get((words[place - 1], word)) if place else None
    if label or (label := _LABELS.get(word)):
        return label
    if not word.isascii():
        return Label.PHONE if _UNSPACED.search(word) else None
    if len(word) == 1:
        return _SPELLED.get("".join(words[max(0, place - 2) : place + 1]))
    return _LABELS.get(word.removesuffix("number")) if word.endswith("number") else None  # phoneNumber


def _nearest(words: list[str], near: int) -> Context:
    """The last of `words` with a meaning; another number stands before the last `near` of them."""
    adjacent = True
    numbered = plain = False
    for place in range(len(words) - 1, -1, -1):
        word = words[place]
        adjacent = adjacent and place >= len(words) - near
        if label := _label(words, place):
            return Context(label, adjacent)
        if adjacent and numbered and word in _OWNED:
            return Context(Label.PHONE, True)
        if word in _NUMBER:
            numbered = True
            plain = place == 0 or words[place - 1] in _PLAIN
        elif word not in _FILLING:
            adjacent = False
    return Context(Label.NUMBER, True) if plain else NONE
