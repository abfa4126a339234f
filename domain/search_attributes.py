"""The search attributes by which people find workflows, named once; the server must know all of them."""

from typing import Any

from temporalio.common import SearchAttributeKey

MARKET_STATUS = SearchAttributeKey.for_keyword("MarketStatus")
"""A `MarketStatus`."""

MARKET_CATEGORY = SearchAttributeKey.for_keyword("MarketCategory")
"""A `Category`."""

AI_VERSION = SearchAttributeKey.for_keyword("AiVersion")
"""The set of prompts, model and rules that made the record."""

EXPIRY = SearchAttributeKey.for_datetime("Expiry")
"""When trading ends."""

PARKED = SearchAttributeKey.for_bool("Parked")
"""Whether a step waits for an operator after its retries ran out."""

REVIEW_KIND = SearchAttributeKey.for_keyword("ReviewKind")
"""What kind of decision a review asks for."""

REVIEW_PRIORITY = SearchAttributeKey.for_keyword("ReviewPriority")
"""How urgent a review is."""

REVIEW_DEADLINE = SearchAttributeKey.for_datetime("ReviewDeadline")
"""When the review's term ends."""

SEARCH_ATTRIBUTES: tuple[SearchAttributeKey[Any], ...] = (
    MARKET_STATUS,
    MARKET_CATEGORY,
    AI_VERSION,
    EXPIRY,
    PARKED,
    REVIEW_KIND,
    REVIEW_PRIORITY,
    REVIEW_DEADLINE,
)
"""All of them."""
