"""What kind of sentence a text is: one yes/no question, or why not; words that two people read differently."""

import re

_AUXILIARY = (
    r"(?:will|would|shall|is|are|was|were|do|does|did|has|have|had|can|could|should|may|might|must|isn['\u2019]t"
    r"|won['\u2019]t|doesn['\u2019]t)"
)
_CAPITALISED = (
    "(?:Will|Would|Shall|Is|Are|Was|Were|Do|Does|Did|Has|Have|Had|Can|Could|Who|What|Which|When|Where|Why|How)"
)
_WH = (
    r"(?:who|whom|whose|what|which|when|where|why|how|qui[e\u00e9]n(?:es)?|qu[e\u00e9]|cu[a\u00e1]l(?:es)?"
    r"|cu[a\u00e1]ndo|d[o\u00f3]nde|cu[a\u00e1]nt[oa]s?|c[o\u00f3]mo)"
)
_STARTS = re.compile(rf"{_AUXILIARY}\b", re.IGNORECASE)
_OPEN_QUESTION = re.compile(
    rf"^[\u00bf\"'\u201c(]*{_WH}\b|[,:;\u2013-] (?:{_WH}|which \w+|how (?:many|much)(?: \w+)?) (?:will|would)\b",
    re.IGNORECASE,
)
_PROBABILITY = re.compile(
    r"^what (?:is|are) the (?:probability|chances?|odds|likelihood) (?:that|of) (?P<claim>.+?)\??$",
    re.IGNORECASE | re.DOTALL,
)
_CLAIM = re.compile(r"^(?P<subject>.+?) (?P<verb>will|would) (?P<rest>.+)$", re.IGNORECASE | re.DOTALL)
_UP_TO_QUESTION_MARK = re.compile(r"[^?\n]+\?(?:\s*\([^()\n]*\))?")
# A full stop alone ends no sentence: "the U.S. government", "Feb. 3rd". One before "Will" or "Is" does.
_SENTENCE_END = re.compile(rf"[.!:]\s+(?={_CAPITALISED}\b)")

_SUBJECTIVE = re.compile(
    r"\b(?:significant(?:ly)?|substantial(?:ly)?|substantively|major|meaningful(?:ly)?|success(?:ful(?:ly)?)?|best|worst"
    r"|good|bad|great|popular|important|notable|impressive|serious(?:ly)?|reasonabl[ey]|fair(?:ly)?|likely|strong(?:ly)?"
    r"|weak|prompt(?:ly)?|big|huge|soon|several|many|few|mainstream|widely|actually|really|beautiful|credibly|stringent)\b",
    re.IGNORECASE,
)
_RELATIVE_TIME = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|now|currently|recently|soon|upcoming|(?:eoy|eom|eod)(?! ?20\d\d)"
    r"|(?:this|next|last|coming) (?:day|week|weekend|month|quarter|year|season|summer|winter|spring|fall|autumn|decade)"
    r"|(?:end|rest|close) of (?:the )?(?:day|week|month|quarter|year)(?! (?:of )?20\d\d)|within (?:a|the next|\w+)"
    r" (?:days?|weeks?|months?|years?)|in (?:the next )?\w+ (?:days|weeks|months|years))\b",
    re.IGNORECASE,
)
_SELF_REFERENCE = re.compile(
    r"\b(?:this|our) (?:prediction )?(?:market|question)\b"
    r"|\b(?:traders|bettors|volume|liquidity) (?:on|in|of) this\b|\bclotho\b",
    re.IGNORECASE,
)
_PROPOSER = re.compile(
    r"\b[Ww]ill I\b|\bI(?:['\u2019](?:m|ve|ll|d)\b| (?:will|am|have|do|get|finish|win|run|be|make|can|go)\b)"
    r"|\b(?:[Ww]ill|by|of|in) my\b"
)


def question_of(text: str) -> str | None:
    """The one yes/no question that a text asks, its white space folded; None if it asks none, or several."""
    asked = [" ".join(found.split()) for found in _UP_TO_QUESTION_MARK.findall(text)]
    if not asked:
        folded = " ".join(text.split())
        return folded if _STARTS.match(folded) and "\n" not in text.strip() else None
    asked = [_last_sentence(found) for found in asked]
    questions = [found for found in asked if _STARTS.match(found) or _OPEN_QUESTION.search(found)] or asked[:1]
    return _as_yes_no(questions[0]) if len(questions) == 1 else None


def _last_sentence(text: str) -> str:
    """The question alone, without the sentences that stand before it."""
    starts = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[starts[-1] :] if starts else text


def _as_yes_no(question: str) -> str | None:
    probability = _PROBABILITY.match(question)
    if probability:
        claim = _CLAIM.match(probability["claim"])
        return f"{claim['verb'].capitalize()} {claim['subject']} {claim['rest']}?" if claim else None
    return None if _OPEN_QUESTION.search(question) else question


def subjective_words(text: str) -> list[str]:
    """Words that two honest people can read differently, each once."""
    return list(dict.fromkeys(word.lower() for word in _SUBJECTIVE.findall(text)))


def relative_times(text: str) -> list[str]:
    """Times that move with the reader ("this year", "EOY"), each once."""
    return list(dict.fromkeys(match.group(0).lower() for match in _RELATIVE_TIME.finditer(text)))


def self_referential(text: str) -> bool:
    """Whether a question is about the market that it would make."""
    return _SELF_REFERENCE.search(text) is not None


def proposer_controls(text: str) -> bool:
    """Whether a question is about the one who asks it."""
    return _PROPOSER.search(text) is not None
