"""Following a table: whatever ends the connection, the table is followed over the next one."""

import asyncpg
import pytest

from db.following import Follower
from db.pool import Connection
from tests.support import eventually


class Reader(Follower):
    """Counts its readings; the second one fails."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(url, "nothing", poll=0.05)
        self.error, self.connections = error, list[Connection]()

    async def _read(self, connection: Connection) -> None:
        self.connections.append(connection)
        if len(self.connections) == 2:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        # What asyncpg 0.32 raises when the server has said good-bye and the client has not read it yet.
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
    ],
)
async def test_what_is_lost_is_followed_again(postgres_url: str, error: Exception) -> None:
    async with Reader(postgres_url, error) as reader:

        async def goes_on() -> bool:
            return len(reader.connections) > 3

        await eventually(goes_on, "another reading", 5)
        assert reader.connections[2] is not reader.connections[1]
