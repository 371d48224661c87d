"""Sends generations with the OpenTelemetry Python SDK, as an instrumented application would.

usage: otel_sdk.py http|grpc ENDPOINT KEY SERVICE PROMPT COUNT      prints the ids as JSON
"""
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

protocol, endpoint, key, service, prompt, count = sys.argv[1:7]
if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=endpoint, headers={"authorization": f"Bearer {key}"}, compression=Compression.Gzip)
else:
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=True, headers=(("authorization", f"Bearer {key}"),), compression=Compression.Gzip
    )

results = []
export = exporter.export
exporter.export = lambda spans: results.append(export(spans)) or results[-1]

resource = Resource.create({"service.name": service, "openinference.project.name": service})
provider = TracerProvider(resource=resource)
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("tests", "1.0")
ids = []
for n in range(int(count)):
    with tracer.start_as_current_span("handle request") as parent:
        with tracer.start_as_current_span("chat gpt-4o", kind=SpanKind.CLIENT) as span:
            span.set_attributes(
                {
                    "openinference.span.kind": "LLM",
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.response.model": "gpt-4o-2024-11-20",
                    "llm.model_name": "gpt-4o",
                    "gen_ai.usage.input_tokens": 30 + n,
                    "gen_ai.usage.output_tokens": 12,
                    "gen_ai.usage.cost": 0.00125,
                    "llm.token_count.prompt": 30 + n,
                    "llm.token_count.completion": 12,
                    "user.id": "ada",
                    "session.id": f"session-{n}",
                    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": prompt}]}]),
                    "gen_ai.output.messages": json.dumps(
                        [{"role": "assistant", "parts": [{"type": "text", "content": f"answer to {prompt}"}], "finish_reason": "stop"}]
                    ),
                    "input.value": prompt,
                    "output.value": f"answer to {prompt}",
                }
            )
            span.set_status(Status(StatusCode.OK))
            for each in (parent, span):
                context = each.get_span_context()
                ids.append([f"{context.trace_id:032x}", f"{context.span_id:016x}"])
flushed = provider.force_flush()
provider.shutdown()
print(json.dumps({"ids": ids, "flushed": flushed, "results": [r.name for r in results]}))
