"""Spans for OpenTelemetry: requests, synch jobs, calls of CRM, statements.

Until `configure_tracing` is called nothing is recorded and a span costs next to nothing. No span holds a query
string, a body, a parameter of a statement or a header.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, ProxyTracerProvider, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

CLIENT, SERVER, INTERNAL = SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL
_W3C = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("navcrm")
_SPAN = "navcrm_span"
_CALLERS = b"traceparent"
_UNTRACED = nullcontext(INVALID_SPAN)


class TracingUnavailable(RuntimeError):
    """Spans are asked for, and what sends them is not installed."""


def configure_tracing(endpoint: str) -> Callable[[], None]:
    """Sends spans to an OpenTelemetry collector over HTTP; the answer sends the last ones and ends it.

    `endpoint` is the collector's base address, `http://collector:4318`; headers, sampling, the name of the service
    and the like come from the variables OTEL_... that the library reads. Raises TracingUnavailable.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            "An OpenTelemetry endpoint is set, but what sends spans is not installed: install navcrm[otel], "
            "or unset NAVCRM_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_ENDPOINT."
        ) from error
    # What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say goes before what is said here.
    named = Resource({"service.name": "navcrm", "service.version": version("navcrm")}).merge(
        _of_environment(Resource)
    )
    provider = TracerProvider(resource=named)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _of_environment(resource: Any) -> Any:
    found = resource.create()
    unnamed = str(found.attributes.get("service.name", "")).startswith("unknown_service")
    return resource({k: v for k, v in found.attributes.items() if not (unnamed and k == "service.name")})


@contextmanager
def span(name: str, kind: SpanKind = INTERNAL, attributes: Mapping[str, Any] | None = None) -> Iterator[Span]:
    """A span around the block; an error that leaves the block is noted by its type alone, its text may hold data."""
    with _tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise


def serving(scope: Mapping[str, Any], attributes: Mapping[str, Any]) -> AbstractContextManager[Span]:
    """A span of an HTTP request around the block (`scope` is that of ASGI), as a part of the caller's trace, where it
    names one. Costs next to nothing where nobody traces, neither we nor the caller."""
    if is_tracing() or _CALLERS in dict(scope["headers"]):
        return _serving(scope, attributes)
    return _UNTRACED


@contextmanager
def _serving(scope: Mapping[str, Any], attributes: Mapping[str, Any]) -> Iterator[Span]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    with called_with(headers), span(scope["method"], SERVER, attributes) as current:
        yield current


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return type(trace.get_tracer_provider()) is not ProxyTracerProvider  # asked with every request


def beginning(name: str, attributes: Mapping[str, Any] | None = None) -> Span:
    """A span of something that we wait for; whoever begins it ends it."""
    return _tracer.start_span(name, kind=CLIENT, attributes=attributes)


@contextmanager
def called_with(headers: Mapping[str, str]) -> Iterator[None]:
    """Takes what happens in the block for a part of the caller's trace (W3C `traceparent`), where it names one."""
    token = otel_context.attach(_W3C.extract(headers))
    try:
        yield
    finally:
        otel_context.detach(token)


def named_in_log() -> dict[str, str]:
    """What lines of the log say of the trace that we are in, ours or the caller's: `trace_id`, 32 hexadecimal
    digits, or nothing."""
    current = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(current.trace_id)} if current.is_valid else {}


def trace_statements(engine: AsyncEngine) -> None:
    """A span for each statement of this pool, by its first word; neither its text nor its parameters."""

    def begin(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if trace.get_current_span().is_recording():  # a statement outside of any work is nobody's
            connection.info[_SPAN] = _tracer.start_span(
                f"SQL {statement.split(None, 1)[0].upper()}",
                kind=CLIENT,
                attributes={"db.system.name": "postgresql"},
            )

    def end(connection: Connection, *_: Any) -> None:
        ended: Span | None = connection.info.pop(_SPAN, None)
        if ended is not None:
            ended.end()

    def fail(context: Any) -> None:
        ended: Span | None = context.connection.info.pop(_SPAN, None) if context.connection else None
        if ended is not None:
            ended.set_status(StatusCode.ERROR)
            ended.end()

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
    event.listen(engine.sync_engine, "handle_error", fail)
