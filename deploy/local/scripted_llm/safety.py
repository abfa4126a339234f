"""What must not become a market, and what a person must see: patterns over normalised text.

`injection` reads through casing, spacing, punctuation, invisible characters, look-alike letters, digits for letters.
"""

import re
import unicodedata

_LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u04bb\u0458\u0501\u03bf\u03b1\u03b5\u03b9\u03c1\u03c5\u0131",
    "aeopcyxishjdoaeipui",
)
"""Cyrillic and Greek letters that look like Latin ones."""
_DIGITS_FOR_LETTERS = tuple(str.maketrans("013457@$!", letters) for letters in ("oieastasi", "oleastasi"))

_FILLER = r"(?:all|any|every|everything|of|the|your|my|our|these|those|this|that|and|or|me|please|prior|previous)*"
_ORDERS = r"(?:instructions?|prompts?|rules|directions?|directives?|guidelines?|commands?|orders?|messages?|context)"
_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|former|existing|original|initial|system|safety|your)"
_SQUEEZED = re.compile(
    "|".join(
        (
            rf"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|donotfollow|stopfollowing){_FILLER}"
            rf"{_EARLIER}(?:and|or|the|system|safety|given)*{_ORDERS}",
            rf"(?:ignore|disregard|forget){_FILLER}(?:everything|allofit|whatyouweretold|whatcame|whatissaid|allthetext)"
            r"(?:above|before|earlier|previously|youweretold)?",
            rf"{_ORDERS}(?:above|before)(?:are|is)(?:void|invalid|nolongervalid|cancelled|canceled)",
            r"(?:your|the)newinstructions(?:are|is)|newsysteminstructions?|newsystemprompt|systemoverride|adminoverride",
            r"youarenow(?:a|an|in|my|no|not|free|the|dan|going|acting)",
            r"(?:from|fromthis)(?:now|point)on(?:ward|wards)?you(?:are|will|must|shall|act|answer|only)",
            r"pretend(?:tobe|youare|thatyou|youhave)|roleplayas|letsroleplay|actasifyou|actasan?(?:ai|unrestricted"
            r"|uncensored|assistant|model|chatbot|administrator|admin|developer|linux|terminal|different)",
            r"(?:reveal|print|repeat|show|output|display|leak|dump|tell|give|quote|recite|whatis|whatwas|whatare)"
            r"(?:me|us|back|out|the|your|all|of|full|entire|exact|hidden|secret|complete|original|initial|verbatim)*"
            r"(?:systemprompt|systemmessage|initialprompt|hiddenprompt|developermessage|developerprompt|secretinstructions"
            r"|hiddeninstructions|systeminstructions|yourinstructions|yourprompt|promptabove|textabove)",
            r"yoursystemprompt|jailbreak|developermode|doanythingnow|danmode|godmode",
            r"(?:mark|approve|judge|answer)(?:this|the|it)(?:market|question|condition|draft|proposal)?(?:as|with)"
            r"(?:yes|no|met|approved)",
            r"(?:set|use|report|give|answerwith)(?:your|the|a)?confidence(?:to|of|at|is)?(?:1|one|100|hundred|i)",
            r"(?:youmust|alwaysonly|onlyever|always)(?:answer|respond|reply|output)(?:with|only)?(?:yes|no|met)",
            r"ignor(?:a|e|ez)(?:todas|toutes|alle|tutte)?(?:las|les|le)?(?:instrucciones|instructions|anweisungen|istruzioni)",
            r"ignorier(?:e|en)(?:sie)?(?:alle|die|bisherigen|vorherigen|obigen)*anweisungen|oubliez?(?:toutes)?lesinstructions",
        )
    )
)
"""Over a text of which only letters and digits are left, so that spacing and punctuation hide nothing."""
_MARKUP = re.compile(
    r"<\|?\s*/?\s*(?:im_start|im_end|system|endoftext|assistant|instructions?)\s*\|?>|\[/?inst\]|<<\s*sys\s*>>"
    r"|(?:^|\n)\s*#{1,6}\s*(?:system|instruction|assistant)s?\b\s*:?|(?:^|\n)\s*(?:system|assistant|developer)\s*:",
)


def injection(text: str) -> bool:
    """Whether a text tries to instruct the model that reads it."""
    plain = _plain(text)
    if _MARKUP.search(plain):
        return True
    forms = (plain, *(plain.translate(table) for table in _DIGITS_FOR_LETTERS))
    return any(_SQUEEZED.search(re.sub(r"[\W_]+", "", form)) for form in forms)


def _plain(text: str) -> str:
    """Lower case, compatibility forms and accents folded, invisible characters gone."""
    folded = unicodedata.normalize("NFKD", text)
    visible = "".join(c for c in folded if unicodedata.category(c) not in {"Cf", "Mn"})
    return visible.lower().translate(_LOOK_ALIKE)


_FORBIDDEN = {
    "a death": re.compile(
        r"\b(?:die|dies|died|dying|deaths?|deadly|killed|kills|killing|fatalit\w+|casualt\w+|murder\w*|assassinat\w+"
        r"|suicide|execut(?:ed|ion) of|(?:be|is|found|declared|confirmed) dead|pass(?:es|ed)? away|lethal\w*)\b",
        re.IGNORECASE,
    ),
    "an attack": re.compile(
        r"\b(?:attack(?:s|ed|ing)?|air ?strikes?|missile strikes?|bomb(?:s|ed|ing|ings)?|terroris[mt]\w*|invade[sd]?"
        r"|invad(?:e|ing)|invasion|mass shooting|shot|stabbed|kidnap\w*|genocide|detonat\w+|hijack\w*)\b",
        re.IGNORECASE,
    ),
}
_SENSITIVE = {
    "war": re.compile(
        r"\b(?<!trade )(?:war|wars|warfare|military|militia|troops|cease-?fire|armed|army|navy|soldiers?|hostages?"
        r"|nuclear (?:weapon|device|test|war)\w*|missiles?|invasion|invade\w*|airstrikes?|battlefield|annex\w*)\b"
        r"|\bclash(?:es)?\b|\bforces in\b",
        re.IGNORECASE,
    ),
    "religion": re.compile(
        r"\b(?:pope|papal|church|vatican|mosque|synagogue|islam\w*|muslims?|christian(?:s|ity)?|jews|jewish|judaism|hindu\w*"
        r"|buddhis\w+|religio\w+|bible|quran|ayatollah)\b",
        re.IGNORECASE,
    ),
    "health": re.compile(
        r"\b(?:vaccin\w+|disease\w*|virus\w*|viral|pandemic\w*|epidemic\w*|outbreaks?|cancer\w*|covid\w*|influenza|flu|infect\w+"
        r"|abortion\w*|hospitali\w+|diagnos\w+|illness\w*|h5n1|measles|mental health|drug overdose)\b",
        re.IGNORECASE,
    ),
    "violence": re.compile(
        r"\b(?:violen\w+|shooting|rape\w*|tortur\w+|massacre\w*|terroris[mt]\w*|genocide|hostage\w*|self-harm|suicide|riots?"
        r"|murder\w*|kill\w*|death|deaths|deadly|attack\w*|weapons?)\b",
        re.IGNORECASE,
    ),
}
_NO_MILITARY_SENSE = re.compile(
    r"\b(?:star wars?|trade wars?|price war|cyber ?attack|heart attack|god of war)\b", re.IGNORECASE
)


def forbidden(question: str) -> str | None:
    """Which forbidden thing a question is a bet on, or None."""
    return next((what for what, words in _FORBIDDEN.items() if words.search(question)), None)


def sensitive(text: str) -> list[str]:
    """The sensitive topics that a text touches: war, religion, health, violence.

    Elections and ordinary politics are left out on purpose: they are a market category of their own, and a person for
    each of them would review half of all markets.
    """
    text = _NO_MILITARY_SENSE.sub("", text)
    return [topic for topic, words in _SENSITIVE.items() if words.search(text)]
