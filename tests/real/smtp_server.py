"""A mail server for the tests: aiosmtpd on loopback, plain, with STARTTLS or with implicit TLS.

    smtp_server.py --out MAILS.ndjson [--port N] [--tls none|starttls|implicit] [--make-cert DIR]
                   [--user NAME --password WORD] [--refuse N]

Prints `listening PORT` once it does. Each mail that it takes becomes one JSON object in the file
that --out names: envelope, headers, and both bodies decoded, as Python's own mail parser has them.
--make-cert makes `ca.pem` (to trust), `cert.pem` and `key.pem` for 127.0.0.1 and localhost in DIR
with openssl. --refuse answers 451 to the first N mails. With --user, nobody sends without logging
in, and over TLS only where TLS is on.
"""

import argparse
import asyncio
import email
import email.policy
import json
import logging
import pathlib
import signal
import ssl
import subprocess
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def make_certificate(folder):
    """A certificate authority and a certificate of it, good for a day."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "1",
            "-subj", "/CN=Test authority", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", *curve, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    extensions = folder / "extensions.cnf"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                          "extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
            "-CAcreateserial", "-out", "cert.pem", "-days", "1", "-extfile", extensions.name)
    return folder


class Handler:
    def __init__(self, out, refuse):
        self.out = out
        self.refuse = refuse

    async def handle_DATA(self, server, session, envelope):
        if self.refuse > 0:
            self.refuse -= 1
            return "451 4.3.0 not now"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        bodies = {
            part.get_content_type(): part.get_content()
            for part in mail.walk()
            if not part.is_multipart()
        }
        record = {
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data.decode() if session.auth_data else None,
            "headers": [[name.lower(), str(value)] for name, value in mail.items()],
            "defects": [str(defect) for defect in mail.defects],
            "text": bodies.get("text/plain"),
            "html": bodies.get("text/html"),
        }
        self.out.write(json.dumps(record) + "\n")
        self.out.flush()
        return "250 2.0.0 taken"


async def serve(handler, options, port, context):
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(
        lambda: SMTP(handler, **options), host="127.0.0.1", port=port, ssl=context
    )
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    parser.add_argument("--make-cert", default=None, metavar="DIR")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--refuse", type=int, default=0)
    options = parser.parse_args()

    context = None
    if options.tls != "none":
        if options.make_cert is None:
            parser.error(f"--tls {options.tls} needs --make-cert DIR")
        folder = make_certificate(options.make_cert)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    smtp = {"hostname": "localhost", "data_size_limit": 10 << 20}
    if options.tls == "starttls":
        smtp |= {"tls_context": context, "require_starttls": True}
    if options.user:
        def authenticate(server, session, envelope, mechanism, data):
            wanted = (options.user.encode(), (options.password or "").encode())
            good = isinstance(data, LoginPassword) and (data.login, data.password) == wanted
            return AuthResult(success=good, handled=False, auth_data=data.login if good else None)

        smtp |= {"authenticator": authenticate, "auth_required": True,
                 "auth_require_tls": options.tls == "starttls"}

    with open(options.out, "a", encoding="utf-8") as out:
        implicit = context if options.tls == "implicit" else None
        asyncio.run(serve(Handler(out, options.refuse), smtp, options.port, implicit))


if __name__ == "__main__":
    # Clients that break off and logins without TLS are what the tests are about.
    warnings.simplefilter("ignore")
    logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
    sys.exit(main())
