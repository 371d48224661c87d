"""The HTTP of the fronts, over backends that speak none or another."""
import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class AnswerLost(Exception):
    """What was asked is done, but the connection ends without an answer."""


class Front(BaseHTTPRequestHandler):
    """A front gives `reply(url)`: a status, and bytes or what is to be JSON; headers besides, if there are any."""

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

    def answer(self):
        try:
            status, out, *headers = self.reply(urlsplit(self.path))
        except AnswerLost:
            self.close_connection = True
            return
        is_json = not isinstance(out, bytes)
        body = json.dumps(out).encode() if is_json else out
        self.send_response(status)
        self.send_header("content-type", "application/json" if is_json else "text/plain; charset=UTF-8")
        self.send_header("content-length", str(len(body)))
        for name, value in dict(*headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer


def serve(port, front):
    ThreadingHTTPServer(("127.0.0.1", port), front).serve_forever()
