"""Holds the golden bodies of the sinks against the models of the vendors' own SDKs.

Usage: vendor_models.py crates/sinks/src
Prints {"checked": {vendor: bodies}, "wrong": [...], "blind": [...]}: a vendor is blind if its model also takes a body
with a planted mistake.
"""
import importlib.util
import json
import pathlib
import sys
import types
import typing
from unittest.mock import MagicMock

SOURCE = pathlib.Path(sys.argv[1])
CHECKED, WRONG, BLIND = {}, [], []


def bare(name):
    """The package without what its __init__ loads: clients, settings, half of PyPI."""
    module = types.ModuleType(name)
    module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = module


for package in ("opik", "braintrust", "weave"):
    bare(package)
for absent in ("gql", "gql.transport", "gql.transport.exceptions", "wandb"):
    sys.modules[absent] = MagicMock()

import typing_extensions  # noqa: E402

# pydantic reads these of the standard library only from Python 3.12 on.
typing.TypedDict = typing_extensions.TypedDict

import pydantic  # noqa: E402
from braintrust._generated_types import ProjectLogsEvent, SpanAttributes  # noqa: E402
from langsmith.schemas import Run, UsageMetadata  # noqa: E402
from opik.rest_api.types.span_write import SpanWrite  # noqa: E402
from opik.rest_api.types.trace_write import TraceWrite  # noqa: E402
from sentry_relay.exceptions import ProcessingErrorInvalidTransaction
from sentry_relay.processing import StoreNormalizer  # noqa: E402
from weave.trace_server import trace_server_interface as weave  # noqa: E402


def golden(kind):
    text = (SOURCE / kind / "golden.json").read_text()
    return json.loads(text.replace("<version>", "0.0.0"))


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

for scene, (body,) in golden("weave").items():
    for call in body["batch"]:
        check("weave", scene, weave.CompletedCallSchemaForInsert, call, {"started_at": "soon"})

# Relay's normalizer, in-process: the spans of a transaction as Sentry makes one of an OTLP trace.
spans_in = json.loads((SOURCE / "golden/spans.json").read_text())
for scene, change in golden("sentry").items():
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
