"""The HTTP of the fronts that speak JSON."""
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class AnswerLost(Exception):
    """What was asked is done, but the connection ends without an answer."""


class Front(BaseHTTPRequestHandler):
    """A front gives `reply(url)`: a status and what is to be JSON."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self):
        try:
            status, out = self.reply(urlsplit(self.path))
        except AnswerLost:
            self.close_connection = True
            return
        text = json.dumps(out).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer


def serve(port, front):
    ThreadingHTTPServer(("127.0.0.1", port), front).serve_forever()
