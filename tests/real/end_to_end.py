"""From Microsoft's Python client through the daemon to a webhook and a mailbox.

    end_to_end.py LANNER

Starts the emulator, a mail server, a webhook receiver that checks signatures, and the daemon;
publishes records with attacks in them, kills the daemon with SIGKILL in the middle and starts it
again. At the end every attack must have been notified on both ways, each under one id only, and
nothing else. Says `end to end: ok` and exits with 0.
"""

import base64
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from hub_witness import publish

HERE = pathlib.Path(__file__).parent
PATIENCE = 90
ATTACKS = 24


def record(number):
    """A record as Azure wraps it: every third one is an exec, the others are ordinary reads."""
    attack = number % 3 == 0
    moment = f"2026-11-20T10:{number // 60:02}:{number % 60:02}.000000Z"
    pod = f"web-{number}"
    uri = f"/api/v1/namespaces/shop/pods/{pod}"
    reference = {"resource": "pods", "namespace": "shop", "name": pod, "apiVersion": "v1"}
    if attack:
        uri += "/exec?command=cat&command=%2Fetc%2Fhostname&stdout=true"
        reference["subresource"] = "exec"
    event = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"e2e00000-0000-4000-8000-{number:012}",
        "stage": "ResponseStarted" if attack else "ResponseComplete",
        "requestURI": uri,
        "verb": "get",
        "user": {"username": "ada@example.com", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7", "172.31.4.5"],
        "userAgent": "kubectl/v1.34.1",
        "objectRef": reference,
        "responseStatus": {"metadata": {}, "code": 101 if attack else 200},
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    envelope = {
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "category": "kube-audit",
        "resourceId": "/SUBSCRIPTIONS/0/RESOURCEGROUPS/E2E/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/E2E",
        "properties": {"log": json.dumps(event) + "\n", "stream": "stdout"},
        "time": moment,
    }
    return json.dumps({"records": [envelope]}), pod if attack else None


def start(*command, **options):
    """A process that prints one line when it listens; that line, and the process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    return process, process.stdout.readline().strip()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(what, reached):
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def message_ids(mails):
    return {dict(mail["headers"])["message-id"] for mail in lines(mails)}


def notified(hooks):
    """Ids of accepted notifications by the pod that they are about."""
    pods = collections.defaultdict(set)
    for hook in lines(hooks):
        alert = hook["alert"]
        pods[alert["object"]["name"]].add(alert["notification_id"])
    return pods


def main(lanner):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lanner-e2e-"))
    mails, hooks = folder / "mails.ndjson", folder / "hooks.ndjson"
    secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    processes = []
    try:
        hub, connection = start(lanner, "emulator", "--listen", "127.0.0.1:0", "--hub", "audit=2")
        processes.append(hub)
        mail, said = start(sys.executable, HERE / "smtp_server.py", "--out", mails)
        processes.append(mail)
        smtp_port = said.split()[-1]
        hook, said = start(
            sys.executable, HERE / "webhook_receiver.py", "--out", hooks, "--secret", secret,
            "--modes", "500,429:1",
        )
        processes.append(hook)
        hook_port = said.split()[-1]

        (folder / "connection").write_text(connection)
        (folder / "secret").write_text(secret)
        config = folder / "lanner.toml"
        config.write_text(f"""
[eventhubs.audit]
hub = "audit"
auth = "connection-string"
connection-string-file = "connection"

[store]
path = "store"

[stdout]
enabled = false

[telemetry]
listen = "127.0.0.1:0"

[webhook.soc]
url = "http://127.0.0.1:{hook_port}/"
signing-secret-file = "secret"

[email.oncall]
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
from = "lanner@example.com"
to = ["oncall@example.com"]

[[route]]
detectors = ["pod-exec"]
receivers = ["webhook.soc", "email.oncall"]
""")
        records = [record(number) for number in range(3 * ATTACKS)]
        attacks = {pod for _, pod in records if pod}
        assert len(attacks) == ATTACKS
        half = len(records) // 2

        daemon = subprocess.Popen([lanner, "run", "--config", config])
        processes.append(daemon)
        publish(connection, "audit", [body for body, _ in records[:half]])
        until("the first notifications", lambda: len(notified(hooks)) >= 3)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        publish(connection, "audit", [body for body, _ in records[half:]])
        daemon = subprocess.Popen([lanner, "run", "--config", config])
        processes.append(daemon)
        until("every webhook", lambda: set(notified(hooks)) >= attacks)
        until("every mail", lambda: len(message_ids(mails)) >= ATTACKS)
        time.sleep(1)

        assert all(hook["verified"] for hook in lines(hooks)), "a signature does not verify"
        pods = notified(hooks)
        assert set(pods) == attacks, f"not expected: {set(pods) - attacks}"
        for pod, ids in pods.items():
            assert len(ids) == 1, f"{pod} was notified under several ids: {ids}"
        ids = message_ids(mails)
        assert len(ids) == ATTACKS, f"{len(ids)} different mails for {ATTACKS} attacks"
        daemon.terminate()
        assert daemon.wait(timeout=PATIENCE) == 0, "the daemon did not stop cleanly"
    finally:
        for process in processes:
            process.kill()
    print("end to end: ok")


if __name__ == "__main__":
    main(sys.argv[1])
