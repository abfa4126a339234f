"""The base of every model that crosses a process boundary."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class Model(BaseModel):
    """Frozen; an unknown field is an error, so that a typing slip never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hex of a SHA-256 digest."""

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
"""Why somebody did something, in a sentence; short enough for a workflow history."""

Actor = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
"""Who did it: a reviewer's or operator's configured name, or the part of Clotho that acted."""
