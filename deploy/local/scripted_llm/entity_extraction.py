"""The prompt `entity_extraction`, answered by reading dates and the words of announcements.

It goes further than the keyword rules, which have been silent on whatever comes here: the date may stand anywhere in
the item, and may be a month or a quarter.
"""

import re
from datetime import date

from deploy.local.scripted_llm import safety, wording
from deploy.local.scripted_llm.dates import Precision, mentions
from domain.answers import EntityExtractionAnswer
from domain.market import Category
from domain.news import EventType
from domain.news_items import KEYWORDS, entities_of, question_of

_UNSURE = re.compile(r"\b(?:rumou?r|reportedly|sources? say|could|may|might|opinion|sponsored)\b", re.IGNORECASE)


def answer(*, title: str, content: str, published: str, today: str) -> EntityExtractionAnswer:
    """What the item is about, and the question to make a market of."""
    now = date.fromisoformat(today[:10])
    day = date.fromisoformat(published[:10]) if published else now
    text = f"{title}. {content}"
    row = next((row for row in KEYWORDS if row.words.search(title)), None)
    row = row or next((row for row in KEYWORDS if row.words.search(content)), None)
    dated = [mention for mention in mentions(text, day) if mention.precision is not Precision.DAY_WITHOUT_YEAR]
    deadline = max((mention.last for mention in dated if mention.last > now), default=None)
    question, reason = _question(title, deadline, bool(mentions(title, day)))
    if safety.injection(text):
        reason = "The item instructs its reader, so nothing is made of it."
    elif safety.forbidden(title):
        reason = "No market is made on a death or an attack."
    elif wording.subjective_words(title) or _UNSURE.search(title):
        reason = "Two people can read differently what is announced."
    return EntityExtractionAnswer(
        entities=entities_of(title),
        event_type=row.event_type if row else EventType.OTHER,
        category=row.category if row else Category.MISC,
        deadline=deadline,
        worth_a_market=not reason,
        question="" if reason else question,
        reason=reason,
    )


def _question(title: str, deadline: date | None, dated: bool) -> tuple[str, str]:
    """The question that the title announces with its deadline, or why there is none."""
    question = question_of(title)
    if question is None:
        return "", "The item announces no event that happens or does not."
    if deadline is None:
        return "", "The item gives no day until which it is decided."
    if not dated:
        question = f"{question.rstrip('?')} by {deadline:%B} {deadline.day}, {deadline.year}?"
    return question[:500], ""
