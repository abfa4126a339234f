"""Text that gives orders to the model that reads it: told by patterns over what the text says once it is unfolded.

Unfolding undoes what hides words from a filter: letters of other alphabets that look alike, digits for letters,
invisible characters, stretched spacing, base64, hexadecimal, escapes, ROT13, text written backwards. It is a filter
and no proof: what passes it still reaches a model only as data in a block of its own.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

_LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u04bb\u0458\u0501\u03bf\u03b1\u03b5\u03b9\u03c1\u03c5\u03bd\u0131",
    "aeopcyxishjdoaeipuvi",
)
"""Cyrillic and Greek letters, and the dotless i, that look like Latin ones."""
_DIGITS_FOR_LETTERS = tuple(str.maketrans("013457@$!|", letters) for letters in ("oieastasii", "oleastasil"))
_TAGS = {0xE0000 + code: chr(code) for code in range(32, 127)}
"""The invisible tag characters, which spell ASCII that a model reads and a person does not see."""
_DEPTH = 2
"""Layers of encoding undone: more than two and no model reads it either."""


def _folded(text: str) -> str:
    """Lower case, compatibility forms and accents folded, invisible characters gone, tag characters spelt out."""
    apart = unicodedata.normalize("NFKD", text.translate(_TAGS))
    visible = "".join(c for c in apart if unicodedata.category(c) not in {"Cf", "Mn"})
    return unicodedata.normalize("NFC", visible).casefold()


_PHRASES = re.compile(
    "|".join(
        (
            r"\b(?:ignor(?:e|ing)|disregard|forget|overrid(?:e|ing)|bypass|set aside)\b.{0,40}"
            r"\b(?:previous|prior|above|all|earlier|your|these|preceding|foregoing)\b.{0,40}"
            r"\b(?:instruction|prompt|rule|direction|message|guideline|directive|order)s?\b",
            r"\b(?:system|developer|initial|hidden) ?(?:prompt|message)\b",
            r"\byou are (?:now|no longer)\b|\bfrom now on,? (?:you|answer|respond|reply|output)\b",
            r"\b(?:act|behave|respond|reply|answer) as (?:if|an?|the)\b.{0,40}"
            r"\b(?:model|assistant|ai|admin|system|developer)\b",
            r"\bpretend (?:to be|you are|that you)\b|\brole-?play as\b",
            r"\b(?:jailbreak|do anything now|developer mode|god mode)\b",
            r"\b(?:always|must|should) (?:resolve|answer|output|return|respond|reply)\b.{0,20}\b(?:yes|no|met)\b",
            r"\b(?:answer|respond|reply|output|say|return) (?:only|nothing but|exactly|just)\b.{0,20}"
            r"\b(?:yes|no|met|json|approved|safe)\b",
            r"\bmark (?:this|the|it)\b.{0,30}\b(?:approved|safe|valid|met|yes|not a duplicate|unique)\b",
            r"\bset (?:the |your |its )?(?:confidence|outcome|verdict|decision|initial_yes_prob|probability) to\b",
            r"\b(?:note|message|memo|notice|attention|instructions?) (?:to|for) (?:the |any |all )?(?:ai|llm|model"
            r"|language model|assistant|moderator|validator|resolver|classifier)s?\b",
            r"\b(?:dear|hey|hello|attention),? (?:ai|llm|assistant|model|chatgpt|gpt|claude|language model)\b",
            r"\b(?:new|updated|real|actual) (?:system )?instructions?\b ?:",
            r"\bend of (?:the )?(?:user |untrusted )?(?:input|data|evidence|prompt|instructions)\b",
            r"\b(?:pre-?approved|whitelisted|verified as safe) by\b",
        )
    )
)
_WORDS_OF_LANGUAGES = (
    ("ignora|ignore|olvida|descarta|omite", "instrucciones|reglas|órdenes|indicaciones"),
    ("ignore|ignorez|oublie|oubliez|négligez", "instructions|consignes|règles|directives"),
    ("ignorier|vergiss|vergessen sie|missachte", "anweisung|regeln|vorgaben|instruktion|befehle"),
    ("ignora|dimentica|trascura", "istruzioni|regole|indicazioni"),
    ("ignore|ignora|esqueça|desconsidere", "instruções|regras|ordens|orientações"),
    ("negeer|vergeet", "instructies|regels|opdrachten"),
    ("zignoruj|ignoruj|zapomnij", "instrukcj|poleceni|zasad"),
    ("yok say|görmezden gel|unut", "talimat|kurallar|komut"),
    ("ignorera|glöm", "instruktioner|regler|anvisningar"),
    ("abaikan|lupakan", "instruksi|perintah|aturan"),
    ("bỏ qua|quên", "hướng dẫn|chỉ dẫn|quy tắc|lệnh"),
    ("игнорируй|проигнорируй|забудь|забудьте", "инструкци|указани|правила|команды"),
    ("ігноруй|проігноруй|забудь", "інструкці|вказівк|правила"),
    ("αγνόησε|αγνοήστε|ξέχνα", "οδηγίες|κανόνες|εντολές"),
    ("忽略|无视|無視|忘记|忘記", "指令|指示|提示词|规则|規則|说明"),
    ("無視|忘れ", "指示|命令|ルール|プロンプト"),
    ("무시|잊어", "지시|명령|규칙|프롬프트"),
    ("تجاهل|انس", "التعليمات|الأوامر|القواعد|تعليمات"),
    ("התעלם|תתעלם|שכח", "הוראות|ההוראות|הנחיות"),
    ("अनदेखा|नज़रअंदाज|भूल जाओ", "निर्देश|आदेश|नियम"),
)
"""To forget, and what is to be forgotten: stems of each language, in either order within a clause."""
_OTHER_LANGUAGES = re.compile(
    "|".join(
        f"(?:{_folded(verbs)}).{{0,40}}(?:{_folded(objects)})|(?:{_folded(objects)}).{{0,40}}(?:{_folded(verbs)})"
        for verbs, objects in _WORDS_OF_LANGUAGES
    )
)
_MARKUP = re.compile(
    r"<\|?\s*/?\s*(?:im_start|im_end|im_sep|system|endoftext|assistant|user|instructions?|start_header_id|eot_id|tool_call"
    r"|function_calls?)\s*\|?>"
    r"|\[/?(?:inst|system)\]|<<\s*/?sys\s*>>|</?(?:start|end)_of_turn>"
    r"|(?:^|\n)\s*(?:#{1,6}|\*\*|>)?\s*(?:system|assistant|developer|human|instructions?)\s*(?:\*\*)?\s*:"
    r"|(?:^|\n)\s*#{1,6}\s*(?:system|instruction|assistant)s?\s*(?:\n|$)"
    r"|</(?:question|background|criteria|category|expiry|today|text|condition|evidence|lens|draft|findings|open|proposed)>"
    r"|[\"'](?:safe|duplicate|relation|decision|result|verdict|refusal|role)[\"']\s*:\s*[\"'\w]",
)
_QUANTITY = r"(?:all|any|every|of|the|your|my|our|these|those|this|that|and|or|please|given)*"
_SQUEEZED = re.compile(
    rf"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|donotfollow|stopfollowing){_QUANTITY}"
    r"(?:previous|prior|above|earlier|preceding|foregoing|former|original|initial|system|safety|your|all)"
    rf"{_QUANTITY}(?:previous|prior|above|system|safety)?"
    r"(?:instructions?|prompts?|rules|directions?|directives?|guidelines?|commands?|orders?|messages?)"
    r"|(?:reveal|print|repeat|leak|dump|recite)(?:me|the|your|full|hidden|secret|entire|original)*(?:systemprompt"
    r"|systemmessage|hiddenprompt|initialprompt|yourinstructions|hiddeninstructions)"
    r"|newsystemprompt|systemoverride|adminoverride|doanythingnow|youmustalwaysanswer|alwaysresolve(?:to|as)?yes"
)
"""Over a text of which only letters and digits are left, so that spacing and punctuation hide nothing."""


def instructs(text: str) -> bool:
    """Whether a text tries to instruct the model that reads it, openly or hidden."""
    return any(_orders(form) for form in _unfolded(text, _DEPTH))


def _orders(text: str) -> bool:
    folded = _folded(text)
    if _MARKUP.search(folded):
        return True
    spaced = " ".join(folded.split())
    if _OTHER_LANGUAGES.search(spaced):
        return True
    plain = spaced.translate(_LOOK_ALIKE)
    forms = (plain, *(plain.translate(table) for table in _DIGITS_FOR_LETTERS))
    return any(_PHRASES.search(form) or _SQUEEZED.search(re.sub(r"[\W_]+", "", form)) for form in forms)


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEXADECIMAL = re.compile(r"(?:(?:0x|\\x)?[0-9a-fA-F]{2}[\s:,]?){12,}")
_BINARY = re.compile(r"(?:[01]{8}\s?){12,}")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")


def _unfolded(text: str, depth: int) -> Iterator[str]:
    """The text and whatever it encodes, to a depth."""
    yield text
    if depth == 0:
        return
    for hidden in _decoded(text):
        yield from _unfolded(hidden, depth - 1)
    if depth == _DEPTH:
        yield codecs.encode(text, "rot13")
        yield text[::-1]


def _decoded(text: str) -> Iterator[str]:
    whole = (html.unescape(text), unquote(text), _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), text))
    yield from (decoded for decoded in whole if decoded != text)
    for found in _BASE64.finditer(text):
        with_padding = found[0].rstrip("=") + "=" * (-len(found[0].rstrip("=")) % 4)
        try:
            yield base64.b64decode(with_padding, altchars=b"-_" if set("-_") & set(found[0]) else None).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    for pattern, base in ((_HEXADECIMAL, 16), (_BINARY, 2)):
        width = 2 if base == 16 else 8
        for found in pattern.finditer(text):
            digits = re.sub(r"0x|\\x|[\s:,]", "", found[0])
            codes = [int(digits[at : at + width], base) for at in range(0, len(digits) - width + 1, width)]
            yield bytes(codes).decode("utf-8", "replace")
