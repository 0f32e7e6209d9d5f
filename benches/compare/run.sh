#!/bin/sh
# Compares Lanner with tools that answer the same questions about an archive, and with the bounds
# that nothing can pass: reading, counting lines, decompressing. Prints the table of
# docs/performance.md. Fetches and builds the tools under target/compare at the first run.
#
#   benches/compare/run.sh [--rounds N] [--bytes N] [--no-live] [ARCHIVE …]
#
# An ARCHIVE is a file of one record a line; without one, the project's simulator writes it. Two CPUs
# are used, 0 and 1; what else runs on them makes wall times worthless and leaves CPU times.
set -eu
cd "$(dirname "$0")/../.."
tools=target/compare
mkdir -p "$tools"

[ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/python" -c 'import duckdb, chdb' 2>/dev/null ||
    "$tools/venv/bin/pip" install --quiet duckdb==2.0.1 chdb==4.4.0

# A tool that cannot be built is left out, and the table says so.
install() {
    tool=$1
    name=${tool%@*}
    shift
    [ -x "$tools/bin/$name" ] ||
        CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" "$tool" --no-default-features "$@" >"$tools/$name.log" 2>&1 ||
        echo "$name cannot be built: see $tools/$name.log" >&2
}
install jaq@3.1.2
# Without its daemon, it still needs what the daemon is made of.
install rsigma@0.23.0 --features rsigma-runtime

# With the program itself, so that its library is built once.
cargo bench --quiet --no-run --bench detect --bench live
# Built unoptimised, it has written the archive before an optimised one would be built.
cargo build --quiet --example archive
cp Cargo.lock benches/compare/inflate/
CARGO_TARGET_DIR=$tools/build cargo build --release --quiet --manifest-path benches/compare/inflate/Cargo.toml
exec python3 benches/compare/compare.py "$@"
