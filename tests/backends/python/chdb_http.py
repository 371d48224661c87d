"""ClickHouse's HTTP interface over the embedded chDB engine, as far as the tests need it.

usage: chdb_http.py PORT DATA_DIR      (credentials: CH_USER, CH_PASSWORD)

POST /lose-answers?count=N: the next N inserts are done, but their connections end without an answer. Lists
the deduplication tokens of all inserts done so far.
"""
import base64
import os
import re
import sys
import tempfile
import threading
from urllib.parse import parse_qsl

from chdb import session

from front import AnswerLost, Front, serve

PORT, DATA = int(sys.argv[1]), sys.argv[2]
CREDENTIALS = (os.environ["CH_USER"], os.environ["CH_PASSWORD"])
ENGINE = session.Session(DATA)
ONE_AT_A_TIME = threading.Lock()
INSERTS = {"tokens": [], "lose": 0}

# Parameters of the HTTP interface itself; every other one is a setting of the query.
INTERFACE = {"query", "database", "default_format", "query_id", "compress", "decompress", "wait_end_of_query"}
# Exception code -> HTTP status, after the server's own table; the rest is 500.
STATUS = {"60": 404, "81": 404, "16": 404, "47": 404, "62": 400, "27": 400, "26": 400, "117": 400, "33": 400, "516": 403}


class Refused(Exception):
    pass


def text(value):
    return value if re.fullmatch(r"-?\d+", value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def execute(parameters, body):
    """Runs one query; an INSERT with a query parameter takes its rows from the body."""
    query = parameters.get("query", "").strip()
    with ONE_AT_A_TIME:
        if parameters.get("database"):
            ENGINE.query("USE `%s`" % parameters["database"].replace("`", ""))
        insert = re.match(r"(INSERT\s+INTO\s+.+?)\s+FORMAT\s+(\w+)\s*$", query, re.I | re.S)
        if insert:
            settings = ", ".join(f"{k}={text(v)}" for k, v in parameters.items() if k not in INTERFACE)
            with tempfile.NamedTemporaryFile() as rows:
                rows.write(body)
                rows.flush()
                clause = f"SETTINGS {settings}" if settings else ""
                ENGINE.query(f"{insert[1]} FROM INFILE '{rows.name}' {clause} FORMAT {insert[2]}")
            INSERTS["tokens"].append(parameters.get("insert_deduplication_token", ""))
            if INSERTS["lose"]:
                INSERTS["lose"] -= 1
                raise AnswerLost
            return b""
        statement = (query + "\n" if query else "") + body.decode()
        chosen = re.search(r"\bFORMAT\s+(\w+)\s*$", statement)
        output = chosen[1] if chosen else parameters.get("default_format", "TabSeparated")
        result = ENGINE.query(statement[: chosen.start()] if chosen else statement, output)
        return bytes(result.bytes() or b"") if hasattr(result, "bytes") else b""


class Clickhouse(Front):
    def credentials(self, parameters):
        if "x-clickhouse-user" in self.headers:
            return self.headers["x-clickhouse-user"], self.headers.get("x-clickhouse-key", "")
        authorization = self.headers.get("authorization", "")
        if authorization.startswith("Basic "):
            return tuple(base64.b64decode(authorization[6:]).decode().split(":", 1))
        return parameters.get("user", "default"), parameters.get("password", "")

    def reply(self, url):
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.body()
        if url.path == "/ping":
            return 200, b"Ok.\n"
        if url.path == "/lose-answers":
            with ONE_AT_A_TIME:
                INSERTS["lose"] = int(parameters["count"])
                return 200, INSERTS["tokens"]
        try:
            if self.credentials(parameters) != CREDENTIALS:
                raise Refused("Code: 516. DB::Exception: Authentication failed (AUTHENTICATION_FAILED)")
            if parameters.get("decompress") == "1":
                raise Refused("Code: 1. DB::Exception: block compression is not served here")
            return 200, execute(parameters, body)
        except AnswerLost:
            raise
        except Exception as error:
            found = re.search(r"Code: (\d+)", str(error))
            code = found[1] if found else "1002"
            return STATUS.get(code, 500), str(error).encode(), {"x-clickhouse-exception-code": code}


serve(PORT, Clickhouse)
