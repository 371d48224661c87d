"""The routes of Weave's trace service over W&B's own SQLite trace server, as far as the tests need it.

usage: weave_http.py PORT DATABASE KEY

The server is an older one: it knows calls by start and end, and answers 404 to completed calls.
POST /lose-answers?count=N: the next N batches are stored, but their connections end without an answer; answers how many
parts of calls have come again so far.
"""
import base64
import importlib.util
import json
import sys
import threading
import types
from urllib.parse import parse_qsl

import pydantic

from front import AnswerLost, Front, serve

# The package without its client, of which a few object classes want two names.
weave = types.ModuleType("weave")
weave.__path__ = list(importlib.util.find_spec("weave").submodule_search_locations)
weave.Model, weave.op = pydantic.BaseModel, lambda function: function
sys.modules["weave"] = weave

from weave.trace_server import sqlite_trace_server  # noqa: E402
from weave.trace_server import trace_server_interface as interface  # noqa: E402

PORT, DATABASE, KEY = int(sys.argv[1]), sys.argv[2], sys.argv[3]
CREDENTIAL = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
SERVER = sqlite_trace_server.SqliteTraceServer(DATABASE)
SERVER.setup_tables()
ONE_AT_A_TIME = threading.Lock()
STATE = {"lose": 0, "again": 0}


def upsert(request):
    for part in request.batch:
        if part.mode == "end":
            SERVER.call_end(part.req)
            continue
        start = part.req.start
        if SERVER.call_read(interface.CallReadReq(project_id=start.project_id, id=start.id)).call:
            # W&B's service merges the parts of an id, this server has it as a key.
            STATE["again"] += 1
        else:
            SERVER.call_start(part.req)
    if STATE["lose"]:
        STATE["lose"] -= 1
        raise AnswerLost
    return {"res": []}


def query(request):
    return [call.model_dump(mode="json") for call in SERVER.calls_query_stream(request)]


def stats(request):
    return SERVER.calls_query_stats(request).model_dump(mode="json")


ROUTES = {
    "/call/upsert_batch": (interface.CallCreateBatchReq, upsert),
    "/calls/query_stats": (interface.CallsQueryStatsReq, stats),
    "/calls/stream_query": (interface.CallsQueryReq, query),
}


class Weave(Front):
    def reply(self, url):
        body = self.body()
        if url.path == "/health":
            return 200, {}
        if url.path == "/lose-answers":
            STATE["lose"] = int(dict(parse_qsl(url.query))["count"])
            return 200, STATE["again"]
        if self.headers.get("authorization") != CREDENTIAL:
            return 401, {"detail": "Unauthorized"}
        if url.path not in ROUTES or self.command != "POST":
            return 404, {"detail": "Not Found"}
        model, serve = ROUTES[url.path]
        try:
            request = model.model_validate_json(body)
        except pydantic.ValidationError as error:
            return 422, {"detail": json.loads(error.json(include_input=False))}
        with ONE_AT_A_TIME:
            return 200, serve(request)


serve(PORT, Weave)
