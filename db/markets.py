"""Markets and their rules."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.pool import Connection, Pool, insertion
from domain import errors
from domain.base import Model
from domain.canonical import model_sha256
from domain.ids import Origin
from domain.market import Category, MarketDraft, Outcome, Proposal, SourceState, Validation
from domain.rules import ResolutionRules
from domain.status import MARKET_MOVES, MarketStatus


class Market(Model):
    """One row of markets."""

    id: UUID
    origin: Origin
    status: MarketStatus
    title: str
    description: str
    category: Category
    rules_sha256: str
    ai_version: str
    initial_yes_prob: int
    confidence: float
    expiry: datetime
    validation: Validation | None = None
    address: str | None = None
    dispute_window_seconds: int | None = None
    outcome: Outcome | None = None
    rehearsal: tuple[SourceState, ...] | None = None
    created_at: datetime
    updated_at: datetime


class Similar(Model):
    """A market whose title reads like another's; `similarity` from 0 to 1, by trigrams."""

    id: UUID
    title: str
    status: MarketStatus
    outcome: Outcome | None
    similarity: float


class OpenQuestion(Model):
    """What an open market asks. Likenesses to the text compared are from 0 to 1, by trigrams."""

    id: UUID
    question: str
    question_likeness: float
    urls: tuple[str, ...]
    """Of its rules' sources."""
    expiry: datetime
    proposed: Proposal | None
    """What it was proposed as, if it was."""
    proposed_likeness: float


async def get(connection: Connection | Pool, market_id: UUID) -> Market:
    """One market.

    Raises:
        ApplicationError: UnknownMarket.
    """
    market = await get_if_drafted(connection, market_id)
    if market is None:
        raise errors.failure(errors.UNKNOWN_MARKET, f"there is no market {market_id}")
    return market


async def get_if_drafted(connection: Connection | Pool, market_id: UUID) -> Market | None:
    """One market, or None for a lifecycle that has no draft yet."""
    row = await connection.fetchrow("SELECT * FROM markets WHERE id = $1", market_id)
    return None if row is None else Market.model_validate(dict(row))


async def find(
    connection: Connection | Pool, *, status: MarketStatus | None = None, category: Category | None = None, limit: int
) -> list[Market]:
    """Markets of a status and category (None: any), newest first."""
    rows = await connection.fetch(
        "SELECT * FROM markets WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR category = $2)"
        " ORDER BY created_at DESC, id LIMIT $3",
        status,
        category,
        limit,
    )
    return [Market.model_validate(dict(row)) for row in rows]


async def similar(connection: Connection | Pool, market_id: UUID, title: str, *, limit: int = 5) -> list[Similar]:
    """The other markets whose titles are most like a title, best first; less than 0.3 is no likeness."""
    rows = await connection.fetch(
        # The operator is what the index answers; its threshold is a setting, 0.3 unless somebody changed it.
        "SELECT id, title, status, outcome, similarity(title, $2) AS similarity FROM markets"
        " WHERE id <> $1 AND title % $2 AND similarity(title, $2) >= 0.3 ORDER BY similarity DESC, id LIMIT $3",
        market_id,
        title,
        limit,
    )
    return [Similar.model_validate(dict(row)) for row in rows]


_OPEN = (MarketStatus.DRAFT, MarketStatus.PENDING_REVIEW, MarketStatus.ACTIVE, MarketStatus.RESOLVING)
"""Statuses of markets without an outcome yet."""
_MOST_ALIKE = 2_000
"""Questions of one template can be this many; facts sort them out, and no index can."""


async def open_questions(connection: Connection, market_id: UUID, text: str, *, at_least: float) -> list[OpenQuestion]:
    """The open markets, but one's own, that ask in words like a text's: in their question, or as they were proposed.

    Args:
        connection: in a transaction, for which the threshold of the trigram index is set.
        market_id: one's own.
        text: a question.
        at_least: the least likeness, from 0 to 1.
    """
    await connection.execute("SELECT set_config('pg_trgm.similarity_threshold', $1, true)", str(at_least))
    rows = await connection.fetch(
        "WITH alike AS (SELECT markets.id FROM rules JOIN markets USING (rules_sha256)"
        " WHERE (body ->> 'exact_question') % $2"
        " UNION SELECT market_id FROM proposals WHERE (proposal ->> 'text') % $2)"
        " SELECT markets.id, body ->> 'exact_question' AS question,"
        " similarity(body ->> 'exact_question', $2) AS question_likeness,"
        " array(SELECT jsonb_path_query(body, '$.criteria.allowed_sources[*].url') #>> '{}') AS urls,"
        " markets.expiry, proposal AS proposed, coalesce(similarity(proposal ->> 'text', $2), 0) AS proposed_likeness"
        " FROM alike JOIN markets USING (id) JOIN rules USING (rules_sha256)"
        " LEFT JOIN proposals ON proposals.market_id = markets.id"
        " WHERE markets.status = ANY($3) AND markets.id <> $1"
        " ORDER BY greatest(similarity(body ->> 'exact_question', $2), similarity(proposal ->> 'text', $2)) DESC,"
        " markets.id LIMIT $4",
        market_id,
        text,
        _OPEN,
        _MOST_ALIKE,
    )
    return [OpenQuestion.model_validate(dict(row)) for row in rows]


async def hold_open(connection: Connection) -> None:
    """Let nobody else open a market until the transaction is over, so that what was compared is all there is."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('open markets', 0))")


def new_draft(market_id: UUID, origin: Origin, draft: MarketDraft, ai_version: str) -> Market:
    """The row of a new draft, bound to an ai_version."""
    now = datetime.now(UTC)
    return Market(
        id=market_id,
        origin=origin,
        status=MarketStatus.DRAFT,
        title=draft.title,
        description=draft.description,
        category=draft.category,
        rules_sha256=model_sha256(draft.rules),
        ai_version=ai_version,
        initial_yes_prob=draft.initial_yes_prob,
        confidence=draft.confidence,
        expiry=draft.rules.expiry,
        created_at=now,
        updated_at=now,
    )


def as_market_draft(market: Market, rules: ResolutionRules) -> MarketDraft:
    """A stored draft as people and prompts read it."""
    return MarketDraft(
        title=market.title,
        description=market.description,
        category=market.category,
        rules=rules,
        initial_yes_prob=market.initial_yes_prob,
        confidence=market.confidence,
    )


async def insert(connection: Connection, market: Market) -> None:
    """Store a new market; its rules are stored before it."""
    fields = market.model_dump()
    await connection.execute(insertion("markets", fields), *fields.values())


async def move(connection: Connection, market_id: UUID, to: MarketStatus, **facts: Any) -> None:
    """Change a market's status and, with it, the columns named in `facts`.

    The row's own status decides: a move that the table of moves does not have changes nothing. A market that is
    there already takes the facts again, so that a repeated attempt is harmless.

    Raises:
        ApplicationError: IllegalMove, or UnknownMarket.
    """
    sources = [old for old, targets in MARKET_MOVES.items() if to in targets or old is to]
    assigned = "".join(f", {column} = ${place}" for place, column in enumerate(facts, start=4))
    moved = await connection.fetchval(
        f"UPDATE markets SET status = $2, updated_at = now(){assigned}"  # noqa: S608 - column names are ours
        " WHERE id = $1 AND status = ANY($3) RETURNING true",
        market_id,
        to,
        sources,
        *facts.values(),
    )
    if not moved:
        market = await get(connection, market_id)
        raise errors.failure(errors.ILLEGAL_MOVE, f"market {market_id} is {market.status} and cannot become {to}")


async def overdue(connection: Connection | Pool, late: timedelta) -> tuple[int, int]:
    """How many markets were due longer ago than `late` and nobody has read their sources, and how often that was done
    for any market since the first of them was due."""
    row = await connection.fetchrow(
        "WITH late AS (SELECT expiry + make_interval(secs => (body->'not_yet_published'->>'settle_after')::int) AS due"
        " FROM markets JOIN rules USING (rules_sha256) WHERE status = 'active')"
        " SELECT count(*) AS overdue,"
        " (SELECT count(*) FROM resolutions WHERE created_at > (SELECT min(due) FROM late)) AS looks"
        " FROM late WHERE due < now() - $1::interval",
        late,
    )
    assert row is not None, "an aggregate has one row"
    return row["overdue"], row["looks"]


async def record_rehearsal(connection: Connection | Pool, market_id: UUID, sources: tuple[SourceState, ...]) -> None:
    """Store what each source gave in the last rehearsal, in place of what it gave before."""
    await connection.execute(
        "UPDATE markets SET rehearsal = $2 WHERE id = $1", market_id, [state.model_dump() for state in sources]
    )


async def store_rules(connection: Connection | Pool, rules: ResolutionRules) -> str:
    """Store rules under their hash; the same rules are stored once."""
    rules_sha256 = model_sha256(rules)
    await connection.execute(
        "INSERT INTO rules (rules_sha256, body) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        rules_sha256,
        rules.model_dump(mode="json", by_alias=True),
    )
    return rules_sha256


async def load_rules(connection: Connection | Pool, rules_sha256: str) -> ResolutionRules:
    """The rules with that hash.

    Raises:
        ApplicationError: BadInput when there are none.
    """
    return ResolutionRules.model_validate(await rules_json(connection, rules_sha256))


async def rules_json(connection: Connection | Pool, rules_sha256: str) -> Any:
    """The rules with that hash as they are stored, for who must see a change that reading would mend.

    Raises:
        ApplicationError: BadInput when there are none.
    """
    body = await connection.fetchval("SELECT body FROM rules WHERE rules_sha256 = $1", rules_sha256)
    if body is None:
        raise errors.failure(errors.BAD_INPUT, f"rules_sha256: no rules with the hash {rules_sha256} are stored")
    return body
