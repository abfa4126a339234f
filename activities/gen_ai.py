"""What is measured of calls to models, by OpenTelemetry's GenAI names, all of which stand here.

Conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/. A dot in a metric's or label's name is an underscore
for Prometheus. Spans go where OpenTelemetry's SDK is set up to send them, and nowhere otherwise. Prompts and answers
are never among the attributes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from prometheus_client import Histogram
from temporalio.exceptions import ApplicationError

OPERATION, PROVIDER = "chat", "openai"
"""The operation, and whose API is spoken."""

_ATTRIBUTES = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": PROVIDER}
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

# Boundaries as the conventions have them.
_DURATION = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Seconds of one call to a model (gen_ai.client.operation.duration).",
    (*_LABELS, "error_type"),
    buckets=[0.01 * 2**power for power in range(14)],
)
_TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of one call to a model (gen_ai.client.token.usage).",
    (*_LABELS, "gen_ai_token_type"),
    buckets=[4**power for power in range(14)],
)


@dataclass
class Call:
    """One call under way."""

    _model: str
    _span: Span
    error_type: str = ""
    """Why its answer is of no use; empty when it is."""

    def used(self, input_tokens: int, output_tokens: int) -> None:
        """What the provider says it took."""
        self._span.set_attribute("gen_ai.usage.input_tokens", input_tokens)
        self._span.set_attribute("gen_ai.usage.output_tokens", output_tokens)
        _TOKENS.labels(OPERATION, PROVIDER, self._model, "input").observe(input_tokens)
        _TOKENS.labels(OPERATION, PROVIDER, self._model, "output").observe(output_tokens)


@contextmanager
def calling(model: str, prompt_type: str, ai_version: str) -> Iterator[Call]:
    """Measure the block as one call; what it raises of the error catalogue is the call's `error.type`."""
    attributes = {
        **_ATTRIBUTES,
        "gen_ai.request.model": model,
        "clotho.prompt_type": prompt_type,
        "clotho.ai_version": ai_version,
    }
    started = time.perf_counter()
    tracer = trace.get_tracer("clotho")
    with tracer.start_as_current_span(f"{OPERATION} {model}", kind=SpanKind.CLIENT, attributes=attributes) as span:
        call = Call(model, span)
        try:
            yield call
        except ApplicationError as error:
            call.error_type = error.type or ""
            raise
        except BaseException as error:
            call.error_type = type(error).__name__
            raise
        finally:
            if call.error_type:
                span.set_attribute("error.type", call.error_type)
            taken = time.perf_counter() - started
            _DURATION.labels(OPERATION, PROVIDER, model, call.error_type).observe(taken)
