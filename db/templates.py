"""Rule templates: the newest row of a category is the one in force."""

from datetime import datetime
from uuid import UUID

from db import audit
from db.pool import Connection, Pool
from domain.base import Model
from domain.canonical import model_sha256
from domain.market import Category
from domain.templates import RuleTemplate


class StoredTemplate(Model):
    """One row of rule_templates."""

    category: Category
    version: int
    body: RuleTemplate
    created_by: str
    created_at: datetime


async def current(connection: Connection | Pool, category: Category) -> StoredTemplate | None:
    """The template of a category, if it has one."""
    row = await connection.fetchrow(
        "SELECT * FROM rule_templates WHERE category = $1 ORDER BY version DESC LIMIT 1", category
    )
    return None if row is None else StoredTemplate.model_validate(dict(row))


async def of_market(connection: Connection | Pool, market_id: UUID) -> RuleTemplate | None:
    """The template that was in force when a market was drafted, whatever came after, if there was one."""
    body = await connection.fetchval(
        "SELECT body FROM rule_templates t JOIN markets m USING (category)"
        " WHERE m.id = $1 AND t.created_at <= m.created_at ORDER BY t.version DESC LIMIT 1",
        market_id,
    )
    return None if body is None else RuleTemplate.model_validate(body)


async def every(connection: Connection | Pool) -> list[StoredTemplate]:
    """The template of every category that has one."""
    rows = await connection.fetch("SELECT DISTINCT ON (category) * FROM rule_templates ORDER BY category, version DESC")
    return [StoredTemplate.model_validate(dict(row)) for row in rows]


async def put(pool: Pool, template: RuleTemplate, by: str, reason: str) -> int:
    """Put a template in force, for markets drafted from now on; audited in the same transaction.

    Returns:
        Its version, which counts from 1 in each category; the one in force when it is the same already.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE rule_templates IN SHARE ROW EXCLUSIVE MODE")
        old = await current(connection, template.category)
        if old is not None and old.body == template:
            return old.version
        version = 1 if old is None else old.version + 1
        await connection.execute(
            "INSERT INTO rule_templates (category, version, body, created_by) VALUES ($1, $2, $3, $4)",
            template.category,
            version,
            template.model_dump(mode="json", by_alias=True),
            by,
        )
        details = {
            "version": version,
            "old": None if old is None else model_sha256(old.body),
            "new": model_sha256(template),
            "reason": reason,
        }
        await audit.append(connection, "rule_template_update", "rule_template", template.category, by, details)
    return version
