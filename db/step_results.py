"""Results of steps, stored in the transaction of their effect: a repeated attempt returns the first result."""

from collections.abc import Awaitable, Callable

from db.pool import Connection, Pool
from domain.steps import I, O, Step


async def stored(connection: Connection | Pool, step: Step[I, O], key: str) -> O | None:
    """The result that an earlier attempt stored under `key`, if there is one."""
    result = await connection.fetchval("SELECT result FROM step_results WHERE step = $1 AND key = $2", step.name, key)
    return None if result is None else step.gives.model_validate(result)


async def commit_once(
    pool: Pool, step: Step[I, O], key: str, result: O, effect: Callable[[Connection], Awaitable[object]]
) -> O:
    """Run `effect` and store `result`, in one transaction, unless another attempt has.

    Args:
        pool: where the transaction runs.
        step: the step.
        key: business key of this execution of the step, the same in every attempt.
        result: what the step gives.
        effect: the database writes of the step.

    Returns:
        `result`, or the result of the attempt that came first; then `effect` did not run.
    """
    async with pool.acquire() as connection, connection.transaction():
        # The insert waits for a concurrent attempt's transaction, so only one of them goes on.
        first = await connection.fetchval(
            "INSERT INTO step_results (step, key, result) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true",
            step.name,
            key,
            result.model_dump(mode="json"),
        )
        if first:
            await effect(connection)
            return result
        earlier = await stored(connection, step, key)
        assert earlier is not None, "a conflicting row is visible once its transaction is over"
        return earlier
