"""Snowflake's SQL API over fakesnow (DuckDB), as far as the tests need it.

usage: snowflake_http.py PORT DATABASE SCHEMA TOKEN

POST /trouble?lose=N&hold=M: the answers to the next N inserts are lost; the next M inserts answer 202 and run while
they are asked for. Answers what has come: [{"id", "retry", "ran"}] of each insert.
"""
import datetime
import decimal
import json
import sys
import threading
import uuid
import warnings
from urllib.parse import parse_qsl

from front import AnswerLost, Front, serve

warnings.filterwarnings("ignore")
import fakesnow.instance  # noqa: E402
from snowflake.connector.errors import ProgrammingError  # noqa: E402

PORT, DATABASE, SCHEMA, TOKEN = int(sys.argv[1]), *sys.argv[2:5]
ENGINE = fakesnow.instance.FakeSnow()
ENGINE.connect(database=DATABASE, schema=SCHEMA)
ONE_AT_A_TIME = threading.Lock()
TROUBLE = {"lose": 0, "hold": 0}
INSERTS, DONE, RUNNING = [], {}, {}
FIELDS = {"statement", "timeout", "database", "schema", "warehouse", "role", "bindings", "parameters"}


def refused(status, code, message, state=""):
    return status, {"code": code, "sqlState": state, "message": message, "statementHandle": str(uuid.uuid4())}


def text(value):
    """Every value is a text or null."""
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return f"{value.replace(tzinfo=datetime.timezone.utc).timestamp():.9f}"
    if isinstance(value, (bool, float, int, decimal.Decimal)):
        return json.dumps(float(value) if isinstance(value, decimal.Decimal) else value)
    return str(value)


def run(body):
    bindings = body.get("bindings") or {}
    values = []
    for n in range(1, len(bindings) + 1):
        binding = bindings.get(str(n))
        if not binding or set(binding) != {"type", "value"} or not isinstance(binding["value"], str):
            return refused(400, "391902", f"binding {n} is not as documented")
        if binding["type"] not in ("TEXT", "FIXED", "REAL", "BOOLEAN"):
            return refused(400, "391902", f"no bindings of type {binding['type']}")
        values.append(binding["value"])
    # Names of the request are those SHOW prints: as they are.
    if (body["database"], body["schema"]) != (DATABASE, SCHEMA):
        return refused(422, "002043", "Object does not exist, or operation cannot be performed.", "02000")
    try:
        with ENGINE.connect(database=DATABASE, schema=SCHEMA, paramstyle="qmark") as connection:
            cursor = connection.cursor().execute(body["statement"], values or None)
            rows = [[text(value) for value in row] for row in cursor.fetchall()]
    except ProgrammingError as error:
        return refused(422, f"{error.errno:06}", error.msg, error.sqlstate)
    return 200, {
        "code": "090001", "sqlState": "00000", "message": "Statement executed successfully.",
        "statementHandle": str(uuid.uuid4()), "data": rows, "resultSetMetaData": {"numRows": len(rows)},
    }


def statement(query, body):
    # Snowflake makes one up where none is given.
    request_id = str(uuid.UUID(query.get("requestId", str(uuid.uuid4()))))
    is_insert = body["statement"].startswith("INSERT")
    again = query.get("retry") == "true" and request_id in DONE
    if is_insert:
        INSERTS.append({"id": request_id, "retry": query.get("retry") == "true", "ran": not again})
    if is_insert and not again and TROUBLE["hold"]:
        TROUBLE["hold"] -= 1
        handle = str(uuid.uuid4())
        RUNNING[handle] = [request_id, body, 1]
        return 202, {"code": "333334", "message": "Asynchronous execution in progress.", "statementHandle": handle}
    status, answer = (200, DONE[request_id]) if again else run(body)
    if status == 200:
        DONE[request_id] = answer
    if is_insert and TROUBLE["lose"]:
        TROUBLE["lose"] -= 1
        raise AnswerLost
    return status, answer


def asked(handle):
    if handle not in RUNNING:
        return refused(404, "000709", "Statement not found")
    request_id, body, left = RUNNING[handle]
    if left:
        RUNNING[handle][2] -= 1
        return 202, {"code": "333334", "message": "Asynchronous execution in progress.", "statementHandle": handle}
    del RUNNING[handle]
    status, answer = run(body)
    if status == 200:
        DONE[request_id] = answer
    return status, answer


class Snowflake(Front):
    def reply(self, url):
        with ONE_AT_A_TIME:
            return self.route(url, self.body())

    def route(self, url, body):
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/health":
            return 200, {}
        if url.path == "/trouble":
            TROUBLE.update({name: int(value) for name, value in query.items()})
            return 200, INSERTS
        kind = self.headers.get("x-snowflake-authorization-token-type")
        if self.headers.get("authorization") != f"Bearer {TOKEN}" or kind != "PROGRAMMATIC_ACCESS_TOKEN":
            return refused(401, "390303", "Invalid OAuth access token. ")
        if not self.headers.get("user-agent") or self.headers.get("accept") != "application/json":
            return refused(400, "391917", "headers are not as documented")
        path = url.path.removeprefix("/api/v2/statements")
        if path == url.path:
            return 404, {}
        if self.command == "GET" and path.startswith("/"):
            return asked(path[1:])
        if self.command != "POST" or path:
            return 405, {}
        if self.headers.get("content-type") != "application/json":
            return 415, {}
        body = json.loads(body)
        if set(body) - FIELDS:
            return refused(400, "391911", f"unknown fields {sorted(set(body) - FIELDS)}")
        return statement(query, body)


serve(PORT, Snowflake)
