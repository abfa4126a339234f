"""The prompt `safety_check`, answered by the patterns of `safety`, and by some more words for crimes and harassment."""

import re

from deploy.local.scripted_llm import safety
from domain.answers import SafetyCheckAnswer

_ILLEGAL = re.compile(
    r"\b(?:child porn\w*|hitman|contract kill\w+|stolen (?:credit cards?|data|passwords?)|(?:buy|sell|smuggle|supply)"
    r" (?:cocaine|heroin|fentanyl|meth\w*|ghost guns?)|launder(?:ing|ed)? (?:money|the)|counterfeit \w+ be sold"
    r"|insider (?:tip|trading profit)|ddos|ransomware (?:attack )?(?:on|against)|hack(?:ed)? into)\b",
    re.IGNORECASE,
)
_HARASSMENT = re.compile(
    r"\b(?:harass\w*|stalk(?:ed|ing|s)?|blackmail\w*|humiliat\w+|bull(?:y|ied|ying)|revenge porn|nudes?|sex tape"
    r"|cheat(?:ing|s|ed)? on (?:his|her|my|their)"
    r"|my (?:ex|neighbou?r|boss|teacher|classmate|colleague|wife|husband))\b",
    re.IGNORECASE,
)
_HATE = re.compile(
    r"\b(?:subhuman|vermin|inferior race|racial(?:ly)? inferior|ethnic cleansing of|deport all|exterminat\w+)\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(
    r"\b[\w.+-]+@[\w-]+\.[\w.]+\b|(?<![\w.,-])\+\d{1,3}[ -]?\(?\d{2,4}\)?(?:[ -]?\d{2,4}){2,3}(?!\w)"
    r"|\b\d{3}-\d{2}-\d{4}\b|\bhome address\b",
    re.IGNORECASE,
)


def answer(*, text: str, background: str, criteria: str) -> SafetyCheckAnswer:
    """Whether the question may become a market; the other blocks are read for orders alone."""
    if any(safety.injection(part) for part in (text, background, criteria)):
        return _refused("instructions", "The text instructs its reader instead of asking: send the question alone.")
    if what := safety.forbidden(text):
        return _refused("violence", f"No market is made on {what}: ask about something else.")
    for concern, words, why in (
        ("illegal", _ILLEGAL, "No market is made that brings a crime about: ask about something else."),
        ("harassment", _HARASSMENT, "No market is made on a person's private life: ask about something public."),
        ("hate", _HATE, "No market is made that demeans people: ask about something else."),
        ("personal_data", _PERSONAL, "The text holds a private detail of a person: leave it out."),
    ):
        if words.search(text):
            return _refused(concern, why)
    return SafetyCheckAnswer(safe=True, concern="none", reason="")


def _refused(concern: str, reason: str) -> SafetyCheckAnswer:
    return SafetyCheckAnswer.model_validate({"safe": False, "concern": concern, "reason": reason})
