"""ClickHouse's HTTP interface over the embedded chDB engine, as far as the tests need it.

usage: chdb_http.py PORT DATA_DIR      (credentials: CH_USER, CH_PASSWORD)

POST /lose-answers?count=N: the next N inserts are done, but their connections end without an answer. Lists
the deduplication tokens of all inserts done so far.
"""
import base64
import gzip
import json
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session

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


class AnswerLost(Exception):
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


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            out = self.rfile.read(int(self.headers.get("content-length", 0)))
        return gzip.decompress(out) if self.headers.get("content-encoding") == "gzip" else out

    def credentials(self, parameters):
        if "x-clickhouse-user" in self.headers:
            return self.headers["x-clickhouse-user"], self.headers.get("x-clickhouse-key", "")
        authorization = self.headers.get("authorization", "")
        if authorization.startswith("Basic "):
            return tuple(base64.b64decode(authorization[6:]).decode().split(":", 1))
        return parameters.get("user", "default"), parameters.get("password", "")

    def answer(self):
        url = urlsplit(self.path)
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.body()
        code = None
        try:
            if url.path == "/ping":
                status, out = 200, b"Ok.\n"
            elif url.path == "/lose-answers":
                with ONE_AT_A_TIME:
                    INSERTS["lose"] = int(parameters["count"])
                    status, out = 200, json.dumps(INSERTS["tokens"]).encode()
            else:
                if self.credentials(parameters) != CREDENTIALS:
                    raise Refused("Code: 516. DB::Exception: Authentication failed (AUTHENTICATION_FAILED)")
                if parameters.get("decompress") == "1":
                    raise Refused("Code: 1. DB::Exception: block compression is not served here")
                status, out = 200, execute(parameters, body)
        except AnswerLost:
            self.close_connection = True
            return
        except Exception as error:
            out = str(error).encode()
            found = re.search(r"Code: (\d+)", str(error))
            code = found[1] if found else "1002"
            status = STATUS.get(code, 500)
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=UTF-8")
        self.send_header("content-length", str(len(out)))
        if code:
            self.send_header("x-clickhouse-exception-code", code)
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = answer


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
