"""How often a step is tried again, as ai_config has it at the moment."""

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.configuration import Configuration


class RetryLimit(Interceptor):
    """Ends the retries of a step after `max_retries`, where the step catalogue would allow more."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand around every activity of the worker."""
        return _RetryLimitInbound(next, self._configuration)


class _RetryLimitInbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, configuration: Configuration) -> None:
        super().__init__(next)
        self._configuration = configuration

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except ApplicationError as error:
            limit = (await self._configuration.now()).max_retries
            if error.non_retryable or activity.info().attempt <= limit:
                raise
            raise ApplicationError(
                error.message, *error.details, type=error.type, non_retryable=True, category=error.category
            ) from error
