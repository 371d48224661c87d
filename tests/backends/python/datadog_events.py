"""Holds what a Datadog agent was sent against the types of Datadog's own SDK.

usage: datadog_events.py FILE        a JSON list of envelopes, each with its spans
Prints {"checked": spans, "wrong": [...], "blind": [...]}: blind is a span that passes with a planted mistake as well.
"""
import importlib.util
import json
import pathlib
import sys
import types
import typing

import typing_extensions

# pydantic reads these of the standard library only from Python 3.12 on.
typing.TypedDict = typing_extensions.TypedDict
for name in ("ddtrace", "ddtrace.llmobs"):
    # The package without its tracer.
    module = types.ModuleType(name)
    module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = module

import pydantic  # noqa: E402
from ddtrace.llmobs import _event_types, types as sdk_types  # noqa: E402

# An alias that names itself, which pydantic does not follow; it is in no field that is sent.
_event_types.JSONType = sdk_types.JSONType = typing.Any
STRICT = pydantic.with_config(pydantic.ConfigDict(extra="forbid"))
EVENT = pydantic.TypeAdapter(STRICT(_event_types.LLMObsSpanEvent))
EVENT.rebuild(_types_namespace=vars(_event_types))
checked, wrong, blind = 0, [], []


def refusal(event):
    try:
        EVENT.validate_python(event, strict=True)
    except pydantic.ValidationError as error:
        return str(error)


for envelope in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    if set(envelope) != {"_dd.stage", "_dd.tracer_version", "event_type", "spans"}:
        wrong.append(f"envelope of {sorted(envelope)}")
    for event in envelope["spans"]:
        checked += 1
        if found := refusal(event):
            wrong.append(found)
        for mistake in ({"start_ns": "soon"}, {"meta": {"span": {}}}, {"kind": "llm"}):
            if not refusal({**event, **mistake}):
                blind.append(str(mistake))
print(json.dumps({"checked": checked, "wrong": wrong, "blind": blind}))
