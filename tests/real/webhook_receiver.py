"""A webhook receiver for the tests, which checks signatures with the library standardwebhooks.

    webhook_receiver.py --out REQUESTS.ndjson [--port N] [--secret whsec_…] [--modes LIST]
                        [--cert PEM --key PEM]

Prints `listening PORT` once it does. --modes says how the first requests are answered, in order:
a status, 429:SECONDS for one with Retry-After, `hang`, `close` (after reading the request), `reset`
(without reading it) or `redirect`; all later ones are answered with 200. Each request that was read
becomes one JSON object in the file that --out names; `verified` is what the library says of it.
"""

import argparse
import collections
import json
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, modes, out, secret):
        super().__init__(("127.0.0.1", port), Handler)
        self.modes = collections.deque(modes)
        self.out = out
        self.webhook = Webhook(secret) if secret else None
        self.lock = threading.Lock()

    def next_mode(self):
        with self.lock:
            return self.modes.popleft() if self.modes else "200"

    def record(self, request):
        with self.lock:
            self.out.write(json.dumps(request) + "\n")
            self.out.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        mode = self.server.next_mode()
        if mode == "reset":
            # Lingering for no time turns the close into a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        error = None
        if self.server.webhook:
            try:
                self.server.webhook.verify(body, headers)
            except WebhookVerificationError as failure:
                error = str(failure)
        try:
            alert = json.loads(body)
        except ValueError:
            alert = None
        self.server.record({
            "mode": mode,
            "path": self.path,
            "headers": headers,
            "verified": self.server.webhook is not None and error is None,
            "error": error,
            "alert": alert,
        })
        self.answer(mode)

    def answer(self, mode):
        if mode == "hang":
            time.sleep(3600)
        if mode in ("hang", "close"):
            self.close_connection = True
            return
        status, _, seconds = mode.partition(":")
        extra = {}
        if seconds:
            extra["Retry-After"] = seconds
        if status == "redirect":
            status, extra["Location"] = "307", "/elsewhere"
        self.send_response(int(status))
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret")
    parser.add_argument("--modes", default="", help="separated by commas")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    modes = [mode for mode in options.modes.split(",") if mode]
    with open(options.out, "a", encoding="utf-8") as out:
        server = Receiver(options.port, modes, out, options.secret)
        if options.cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(options.cert, options.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        print(f"listening {server.server_port}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
