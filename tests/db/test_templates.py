"""Rule templates in the database: a change affects markets that are drafted afterwards."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from db import audit, markets, templates
from db.pool import Pool, connect
from domain.market import Category
from domain.templates import RuleTemplate, SourcePattern
from tests.drafts import draft


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


def template(path: str) -> RuleTemplate:
    pattern = SourcePattern.model_validate({"pattern": f"https://example.org/{path}/*", "method": "api_check"})
    return RuleTemplate(category=draft().category, source_patterns=(pattern,))


async def drafted(pool: Pool) -> UUID:
    made, id = draft(), uuid4()
    await markets.store_rules(pool, made.rules)
    async with pool.acquire() as connection, connection.transaction():
        await markets.insert(connection, markets.new_draft(id, "manual", made, "ai_v1.0.0_gpt35_20240601"))
    return id


async def test_a_market_keeps_the_template_of_the_moment_it_was_drafted(pool: Pool) -> None:
    before = await drafted(pool)
    assert await templates.put(pool, template("one"), "anna", "to begin with") == 1
    between = await drafted(pool)
    assert await templates.put(pool, template("two"), "anna", "another path") == 2
    after = await drafted(pool)
    kept = [await templates.of_market(pool, market) for market in (before, between, after)]
    assert kept == [None, template("one"), template("two")]


async def test_a_change_is_audited_and_the_same_template_is_none(pool: Pool) -> None:
    for version, path in ((1, "one"), (1, "one"), (2, "two"), (3, "one")):
        assert await templates.put(pool, template(path), "anna", "why not") == version
    category = draft().category
    trail = await audit.entries(pool, "rule_template", category)
    assert [(e.action, e.actor, e.details["version"]) for e in trail] == [
        ("rule_template_update", "anna", version) for version in (1, 2, 3)
    ]
    assert trail[1].details["old"] == trail[2].details["new"]
    assert [one.version for one in await templates.every(pool)] == [3]
    other = next(one for one in Category if one is not category)
    assert await templates.current(pool, other) is None
