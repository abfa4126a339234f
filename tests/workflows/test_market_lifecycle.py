"""The story of one market: waiting, pausing, cancelling, deciding, giving up."""

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError

from db import audit, markets
from deploy.local.source_site.control import Embargo, Release
from domain.market import Note, RequestChanges, ReviewDecision, Unpark
from domain.status import MarketStatus
from tests.conftest import eventually
from tests.drafts import draft, fred_rules
from tests.workflows.conftest import Lifecycles
from uuid import UUID

NOTE = Note(by="operator", reason="a test says so")


async def reached(lifecycles: Lifecycles, market_id: UUID, status: MarketStatus) -> None:
    async def there() -> bool:
        return (await lifecycles.state(market_id)).status is status

    await eventually(there, f"status {status}")


async def held_back(lifecycles: Lifecycles, series: str, day: str, until: datetime) -> None:
    await lifecycles.site.embargo(Embargo.model_validate({"id": f"fred:{series}", "date": day, "until": until}))


async def test_placeholder(lifecycles: Lifecycles) -> None:
    made = draft()
    market_id = await lifecycles.start(made, key="happy")
    end = await lifecycles.end(market_id)
    assert end.status is MarketStatus.FINALIZED, end
