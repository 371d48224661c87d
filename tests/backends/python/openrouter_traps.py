"""Where users of the official OpenRouter SDK trip: its retries, and a base URL that is not quite right.

usage: openrouter_traps.py retries ADMIN MANAGEMENT_KEY STORE
       openrouter_traps.py addresses ADMIN INGEST MANAGEMENT_KEY
prints a report as JSON
"""
import io
import json
import socket
import sqlite3
import struct
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from openrouter import OpenRouter, errors

from openrouter_common import client, refused

FAULT_SECONDS = 3
# The gateway waits 5 s and says `Retry-After: 2`.
STORE_HELD_SECONDS = 6
HOOK = {"type_": "webhook", "config": {"url": "http://127.0.0.1:9/x"}}


class Trouble:
    """A way to the gateway that first answers 503 for some seconds, then once loses the answer, then works."""

    def __init__(self, target, fault_seconds, lose):
        self.began, self.lose, self.seen = None, lose, []
        trouble = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                trouble.began = trouble.began or time.monotonic()
                if time.monotonic() - trouble.began < fault_seconds:
                    trouble.seen.append("busy")
                    error = {"error": {"code": 503, "message": "the store is busy"}}
                    return self.say(503, json.dumps(error).encode())
                headers = {n: v for n, v in self.headers.items() if n.lower() not in ("host", "content-length", "accept-encoding")}
                answer = httpx.request(self.command, target + self.path, headers=headers, content=body, timeout=30)
                if trouble.lose:
                    kind, trouble.lose = trouble.lose, None
                    trouble.seen.append("lost")
                    if kind == "reset":
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # The file objects hold the socket open; only the last one closes it.
                    self.rfile.close(), self.wfile.close()
                    self.rfile, self.wfile, self.close_connection = io.BytesIO(), io.BytesIO(), True
                    return self.connection.close()
                trouble.seen.append(answer.status_code)
                self.say(answer.status_code, answer.content, answer.headers.get("retry-after"))

            def say(self, status, body, retry_after=None):
                self.send_response(status)
                if retry_after:
                    self.send_header("retry-after", retry_after)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

        class Server(ThreadingHTTPServer):
            def shutdown_request(self, request):
                # Otherwise a shutdown would send FIN before the reset.
                self.close_request(request)

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1"


def retries(admin, key, store):
    """With its own retries, unchanged, the SDK ends with one destination whatever went wrong on the way."""
    direct = client(admin + "/api/v1", key)
    named = lambda name: [d.id for d in direct.observability.list().result.data if d.name == name]
    report = {}

    # Nothing was stored when it said 503: one destination, also without an Idempotency-Key.
    trouble = Trouble(admin, FAULT_SECONDS, None)
    made = OpenRouter(api_key=key, server_url=trouble.url).observability.create(name="busy", **HOOK).data
    assert named("busy") == [made.id] and "busy" in trouble.seen and trouble.seen[-1] == 201, trouble.seen
    report["busy"] = trouble.seen

    # The same from the gateway itself, whose store is held by somebody else for longer than it waits.
    trouble = Trouble(admin, 0, None)
    holder = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(STORE_HELD_SECONDS, lambda: holder.execute("ROLLBACK")).start()
    made = OpenRouter(api_key=key, server_url=trouble.url).observability.create(name="held", **HOOK).data
    assert named("held") == [made.id] and trouble.seen == [503, 201], trouble.seen
    report["held"] = trouble.seen

    # Stored, and the answer lost: the repeat is given the same answer.
    trouble = Trouble(admin, FAULT_SECONDS, "reset")
    sdk = OpenRouter(api_key=key, server_url=trouble.url)
    made = sdk.observability.create(name="lost", **HOOK, http_headers={"Idempotency-Key": str(uuid.uuid4())}).data
    assert named("lost") == [made.id], (named("lost"), trouble.seen)
    assert "busy" in trouble.seen and trouble.seen[-2:] == ["lost", 201], trouble.seen
    report["lost"] = trouble.seen

    # A connection closed without an answer is no error the SDK repeats; its user does.
    trouble = Trouble(admin, 0, "close")
    sdk = OpenRouter(api_key=key, server_url=trouble.url)
    create = lambda: sdk.observability.create(name="closed", **HOOK, http_headers={"Idempotency-Key": "the-one-and-only"})
    try:
        answer = create()
        raise AssertionError(f"answered {answer!r}")
    except httpx.RemoteProtocolError:
        assert trouble.seen == ["lost"], trouble.seen
    assert named("closed") == [create().data.id]
    report["closed"] = trouble.seen

    # A key is shown once: the repeat of a lost answer is told which key was made, and makes none.
    trouble = Trouble(admin, 0, "reset")
    sdk = OpenRouter(api_key=key, server_url=trouble.url)
    create = lambda: sdk.api_keys.create(name="lost", http_headers={"Idempotency-Key": str(uuid.UUID(int=7))})
    # 409 is not declared for this operation, so the SDK has no class for it.
    text = refused(errors.OpenRouterDefaultError, 409, create)
    made = [k.hash for k in direct.api_keys.list().data if k.name == "lost"]
    assert len(made) == 1 and made[0] in text, (made, text)
    report["key"] = trouble.seen
    return report


def addresses(admin, ingest, key):
    """A base URL that is not quite right is told so, in the text the user of the SDK sees."""
    id = "01890000-0000-7000-8000-000000000000"
    told = []
    without_path = client(admin, key)
    told.append(refused(errors.OpenRouterDefaultError, 404, without_path.observability.list, "/api/v1/observability/destinations"))
    told.append(refused(errors.NotFoundResponseError, 404, lambda: without_path.observability.get(id=id), f"/api/v1/observability/destinations/{id}"))
    told.append(refused(errors.NotFoundResponseError, 404, lambda: without_path.workspaces.get(id="default"), "/api/v1/workspaces/default"))
    told.append(refused(errors.NotFoundResponseError, 404, lambda: without_path.api_keys.get(hash="00" * 32), "/api/v1/keys/"))
    # The other listener names this one, with and without the path, in an envelope the SDK reads.
    address = admin.removeprefix("http://")
    for base in (ingest + "/api/v1", ingest):
        wrong = client(base, key)
        told.append(refused(errors.OpenRouterDefaultError, 404, wrong.observability.list, address))
        told.append(refused(errors.NotFoundResponseError, 404, lambda: wrong.observability.get(id=id), address))
        told.append(refused(errors.NotFoundResponseError, 404, lambda: wrong.workspaces.get(id="default"), address))
    return told


def main():
    part, *arguments = sys.argv[1:]
    print(json.dumps({"retries": retries, "addresses": addresses}[part](*arguments)))


main()
