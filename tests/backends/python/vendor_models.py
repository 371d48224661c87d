"""Holds the golden bodies of the sinks against the models and names of the vendors' own SDKs.

Usage: vendor_models.py DIRECTORY        crates/sinks/src, or another with a golden.json in a folder of each kind
Prints {"checked": {vendor: bodies or names}, "wrong": [...], "blind": [...]}: a vendor is blind if its model also takes a body
with a planted mistake.
"""
import datetime
import importlib.util
import json
import pathlib
import re
import sys
import types
import typing
import uuid
from unittest.mock import MagicMock

SOURCE = pathlib.Path(sys.argv[1])
CHECKED, WRONG, BLIND = {}, [], []


def bare(name):
    """The package without what its __init__ loads: clients, settings, half of PyPI."""
    module = types.ModuleType(name)
    module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = module


for package in ("opik", "braintrust", "weave", "posthog", "posthog.ai"):
    bare(package)
for absent in ("gql", "gql.transport", "gql.transport.exceptions", "wandb"):
    sys.modules[absent] = MagicMock()

import typing_extensions  # noqa: E402

# pydantic reads these of the standard library only from Python 3.12 on.
typing.TypedDict = typing_extensions.TypedDict

import pydantic  # noqa: E402
from braintrust._generated_types import ProjectLogsEvent, SpanAttributes  # noqa: E402
from langsmith.schemas import Run, UsageMetadata  # noqa: E402
from posthog.ai.types import FormattedMessage, TokenUsage  # noqa: E402
from posthog import args as posthog_args  # noqa: E402
from opik.rest_api.types.span_write import SpanWrite  # noqa: E402
from opik.rest_api.types.trace_write import TraceWrite  # noqa: E402
from sentry_relay.exceptions import ProcessingErrorInvalidTransaction
from sentry_relay.processing import StoreNormalizer  # noqa: E402
from weave.trace_server import trace_server_interface as weave  # noqa: E402


def golden(kind):
    file = SOURCE / kind / "golden.json"
    return json.loads(file.read_text().replace("<version>", "0.0.0")) if file.exists() else {}


def names(model):
    """What a model calls its fields: extra ones are allowed by some and lost by all."""
    fields = getattr(model, "model_fields", None)
    if fields is None:
        return set(model.__annotations__)
    return set(fields) | {field.alias for field in fields.values() if field.alias}


def check(vendor, where, model, body, broken, also=()):
    """The body fits; it has no field the model lacks; with the planted mistake it does not fit."""
    CHECKED[vendor] = CHECKED.get(vendor, 0) + 1
    adapter = pydantic.TypeAdapter(model)
    unknown = set(body) - names(model) - set(also)
    if unknown:
        WRONG.append(f"{vendor} {where}: fields the SDK does not know: {sorted(unknown)}")
    try:
        adapter.validate_json(json.dumps(body))
    except pydantic.ValidationError as error:
        WRONG.append(f"{vendor} {where}: {error}")
    try:
        adapter.validate_json(json.dumps({**body, **broken}))
        BLIND.append(f"{vendor} {where}: {broken}")
    except pydantic.ValidationError:
        pass


for scene, (traces, spans) in golden("opik").items():
    for body in traces["traces"]:
        check("opik", scene, TraceWrite, body, {"start_time": "soon"})
    for body in spans["spans"]:
        check("opik", scene, SpanWrite, body, {"usage": {"prompt_tokens": "many"}})

for scene, parts in golden("langsmith").items():
    for name, run in parts.items():
        if name.count(".") > 1:
            continue
        whole = dict(run)
        for part in ("inputs", "outputs", "events", "extra", "error"):
            if f"{name}.{part}" in parts:
                whole[part] = parts[f"{name}.{part}"]
        # The SDK calls the project `session_name` on the way in.
        check("langsmith", scene, Run, whole, {"trace_id": "no uuid"}, also=("session_name",))
        usage = whole["outputs"].get("usage_metadata")
        if usage and "output_tokens" in usage:
            check("langsmith", scene + " usage", UsageMetadata, usage, {"input_tokens": "many"})

for scene, (body,) in golden("braintrust").items():
    for row in body["events"]:
        # Set by the server: they are in what it answers, not in what it is sent.
        server = {"_xact_id": "1", "org_id": "o", "project_id": "p", "log_id": "g"}
        check("braintrust", scene, ProjectLogsEvent, {**row, **server}, {"metrics": {"prompt_tokens": "many"}})
        pydantic.TypeAdapter(SpanAttributes).validate_python(row["span_attributes"])

# PostHog's SDK writes properties by name: its source is the list of them. Those its documentation has besides
# (docs/llm-analytics "manual capture", "generations"):
DOCUMENTED = {"$ai_input_cost_usd", "$ai_output_cost_usd", "$ai_stream", "$ai_time_to_first_token", "$geoip_disable"}
sdk = pathlib.Path(sys.modules["posthog"].__path__[0])
SOURCE_OF_POSTHOG = "".join(file.read_text() for file in sdk.rglob("*.py") if "test" not in file.parts)
WRITTEN = set(re.findall(r"[\"'](\$[a-z_]+)[\"']", SOURCE_OF_POSTHOG)) | DOCUMENTED
USAGE = {"$ai_" + name: name for name in TokenUsage.__annotations__}
# Only in an argument that no event carries, and imported for type checkers alone.
posthog_args.FeatureFlagEvaluations = None
capture_args = pydantic.with_config(arbitrary_types_allowed=True)(posthog_args.OptionalCaptureArgs)
if 'AI_EVENTS_ENDPOINT = "/i/v0/ai/batch/"' not in SOURCE_OF_POSTHOG:
    WRONG.append("posthog: the route of AI events is another one")
for scene, (body,) in golden("posthog").items():
    for event in body["batch"]:
        properties = event["properties"]
        check("posthog", scene, capture_args, event, {"properties": "none"}, also=("event",))
        unknown = {name for name in properties if name.startswith("$")} - WRITTEN
        if unknown or event["event"] not in WRITTEN:
            WRONG.append(f"posthog {scene}: names the SDK does not write: {sorted(unknown)}, {event['event']}")
        uuid.UUID(event["uuid"])
        datetime.datetime.fromisoformat(event["timestamp"])
        for message in properties.get("$ai_input", []) + properties.get("$ai_output_choices", []):
            check("posthog", scene + " message", FormattedMessage, message, {"role": 7})
        usage = {USAGE[name]: value for name, value in properties.items() if name in USAGE}
        if usage:
            check("posthog", scene + " usage", TokenUsage, usage, {"input_tokens": "many"})


def constants(module):
    """The texts a module of constants holds: the names its SDK knows."""
    return set(re.findall(r'= "([a-z_.]+)"', pathlib.Path(module).read_text()))


def check_names(vendor, known):
    """Each attribute that a dialect adds is one of the vendor's own; numbers in them count the items of a list."""
    for scene, change in golden(vendor).items():
        for span in change["spans"]:
            for name in span.get("added", {}):
                if name.startswith(NEUTRAL):
                    continue
                CHECKED[vendor] = CHECKED.get(vendor, 0) + 1
                if not known(re.split(r"\.\d+\.", name)):
                    WRONG.append(f"{vendor} {scene}: an attribute the SDK does not know: {name}")
    if known(["llm.model"]) or known(["langfuse.observation.model"]):
        BLIND.append(f"{vendor}: a name that is nearly one")


# What every OTLP receiver is told, in the words of OpenTelemetry.
NEUTRAL = ("gen_ai.", "user.id", "session.id")
OPENINFERENCE = constants(importlib.util.find_spec("openinference.semconv.trace").origin)
check_names("arize", lambda parts: all(part in OPENINFERENCE for part in parts))
LANGFUSE = constants(pathlib.Path(importlib.util.find_spec("langfuse").origin).parent / "_client/attributes.py")
# Beside those of the SDK: langfuse.com/integrations/native/opentelemetry, "property mapping".
LANGFUSE |= {"langfuse.user.id", "langfuse.session.id"}
check_names("langfuse", lambda parts: parts[0] in LANGFUSE or parts[0].startswith("langfuse.trace.metadata."))

for scene, (body,) in golden("weave").items():
    for call in body["batch"]:
        check("weave", scene, weave.CompletedCallSchemaForInsert, call, {"started_at": "soon"})

# Relay's normalizer, in-process: the spans of a transaction as Sentry makes one of an OTLP trace.
for scene, change in golden("sentry").items():
    spans_in = json.loads((SOURCE / "golden/spans.json").read_text())
    spans = []
    for span, edit in zip(spans_in[scene], change["spans"]):
        data = {**span["attributes"], **edit.get("added", {})}
        data = {key: json.dumps(v["json"]) if isinstance(v, dict) else v for key, v in data.items()}
        hex_id = f"{span['id']:02x}" * 8
        spans.append({"span_id": hex_id, "trace_id": "ab" * 16, "start_timestamp": 1.0, "timestamp": 2.5,
                      "op": data["sentry.op"], "data": data})
    event = {"type": "transaction", "transaction": "t", "start_timestamp": 1.0, "timestamp": 2.5, "spans": spans,
             "contexts": {"trace": {"trace_id": "ab" * 16, "span_id": "cd" * 8}}}
    CHECKED["sentry"] = CHECKED.get("sentry", 0) + len(spans)
    normal = StoreNormalizer(project_id=1, is_renormalize=False).normalize_event(event)
    if normal.get("errors"):
        WRONG.append(f"sentry {scene}: {normal['errors']}")
    for before, after in zip(spans, normal["spans"]):
        # What Relay adds where it knows an LLM call or a tool again.
        kind = "tool" if "gen_ai.tool.name" in before["data"] else "ai_client"
        for key, value in {**before["data"], "gen_ai.operation.type": kind}.items():
            if after["data"].get(key) != value:
                WRONG.append(f"sentry {scene}: {key} became {after['data'].get(key)!r}")
    if scene == "chat":
        event["spans"] = [{**spans[0], "span_id": "none"}]
        try:
            StoreNormalizer(project_id=1).normalize_event(event)
            BLIND.append("sentry: a span id that is none")
        except ProcessingErrorInvalidTransaction:
            pass

print(json.dumps({"checked": CHECKED, "wrong": WRONG, "blind": BLIND}))
