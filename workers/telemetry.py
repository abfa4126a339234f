"""Logs as JSON lines, and metrics for the scrape port."""

import logging
import socket
import sys
import time
from typing import Any

import structlog
from temporalio import activity, workflow
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor


def configure_logging(level: str) -> None:
    """Every log line of the process, the libraries' too, as one JSON object on standard error.

    Temporal's own loggers add workflow id, run id, activity and attempt.
    """
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # As fields of the line, not in its text.
    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False
    for noisy in ("httpx", "httpcore", "httpx2", "openai", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class StepLog(Interceptor):
    """One log line for each step that is done, with its seconds; the SDK itself logs attempts that failed."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand around every activity of the worker."""
        return _StepLogInbound(next)


class _StepLogInbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        started = time.perf_counter()
        result = await super().execute_activity(input)
        activity.logger.info("step done", extra={"seconds": round(time.perf_counter() - started, 4)})
        return result


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def temporal_runtime(metrics_port: int) -> Runtime:
    """The process's one Temporal runtime; its metrics are read at `metrics_port` by the health server."""
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
                forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio.core")),
            ),
            metrics=PrometheusConfig(bind_address=f"127.0.0.1:{metrics_port}", durations_as_seconds=True),
        )
    )
