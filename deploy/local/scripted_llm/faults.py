"""Faults on request, for tests and demonstrations: what providers do on a bad day."""

from collections import deque
from typing import Annotated, Literal

from pydantic import Field

from domain.base import Model


class Fault(Model):
    """What happens to the next `count` completions."""

    kind: Literal[
        "status", "delay", "truncated_json", "wrong_schema", "empty_answer", "huge_answer", "nul_character", "no_usage"
    ]
    count: Annotated[int, Field(ge=1, le=1_000)] = 1
    status: Annotated[int, Field(ge=400, le=599)] = 500
    """HTTP status of the kind `status`."""
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds of the Retry-After header of the kind `status`."""
    seconds: Annotated[float, Field(ge=0, le=600)] = 0
    """How much later the answer of the kind `delay` comes."""


class FaultList(Model):
    """Faults still to happen, the next first."""

    faults: tuple[Fault, ...]


class Faults:
    """The faults still to happen."""

    def __init__(self) -> None:
        self._coming: deque[Fault] = deque()

    def add(self, fault: Fault) -> None:
        """Have a fault happen after those already asked for."""
        self._coming.append(fault)

    def clear(self) -> None:
        """Have none happen any more."""
        self._coming.clear()

    def take(self) -> Fault | None:
        """The fault of the completion that is asked for now."""
        if not self._coming:
            return None
        fault = self._coming.popleft()
        if fault.count > 1:
            self._coming.appendleft(fault.model_copy(update={"count": fault.count - 1}))
        return fault

    def coming(self) -> FaultList:
        """All that are still to happen."""
        return FaultList(faults=tuple(self._coming))


HUGE = 5_000_000
"""Characters of a huge answer: more than a workflow's payload or a row should ever hold."""


def spoil(kind: str, content: str) -> str:
    """An answer's content as a fault leaves it."""
    match kind:
        case "truncated_json":
            return content[: len(content) // 2]
        case "wrong_schema":
            return '{"verdict": "yes"}'
        case "empty_answer":
            return ""
        case "huge_answer":
            return '{"reasoning": "' + "x" * HUGE + '"}'
        case "nul_character":
            return content.replace('":"', '":"\\u0000', 1)
    return content
