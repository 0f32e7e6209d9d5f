#!/usr/bin/env bash
# The tests against foreign clients and servers: Microsoft's Event Hubs client, a mail server and a
# webhook receiver, all from PyPI. Installs them into a virtual environment under target/.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/real-venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv" 2>/dev/null || {
        apt-get update -q && apt-get install -qy python3-venv
        python3 -m venv "$venv"
    }
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check \
    'azure-eventhub==5.15.*' 'aiosmtpd>=1.4,<2' 'standardwebhooks>=1.0,<2'
command -v openssl >/dev/null || apt-get install -qy openssl

python="$PWD/$venv/bin/python"
export LANNER_PYTHON="$python" LANNER_WITNESS_PYTHON="$python"

echo "== deliveries to a real mail server, and signatures checked by a foreign library"
cargo test --locked --test deliver -- --ignored
echo "== the emulator, witnessed by Microsoft's Python client"
cargo test --locked --test eventhubs -- --ignored
echo "== from the Python client to webhook and mail, killed in between"
# The tests above have built it.
"$python" tests/real/end_to_end.py target/debug/lanner
