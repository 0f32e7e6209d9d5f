"""Runs Lanner and its peers in turn on an archive and prints the table; see run.sh."""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = os.path.join(ROOT, "target", "compare")
LANNER = os.path.join(ROOT, "target", "release", "lanner")
ARCHIVE = os.path.join(ROOT, "target", "debug", "examples", "archive")
INFLATE = os.path.join(WORK, "build", "release", "inflate")
CONFIG = os.path.join(HERE, "questions.toml")
PYTHON = os.path.join(WORK, "venv", "bin", "python")
ASK = os.path.join(HERE, "ask.py")

ONE, TWO = {0}, {0, 1}
# Tools that take ten times as long read only so much of the archive.
SLICE = 128 << 20
QUESTIONS = ["exec", "port-forward", "binding", "secrets", "foreign", "dashboard"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def path(name):
    return os.path.join(WORK, name)


# ---- Archives -----------------------------------------------------------------------------------


def simulated(size):
    file = path(f"simulated-{size}.json")
    if not os.path.exists(file):
        say("writing the simulator's archive")
        subprocess.run([ARCHIVE, str(size), file + ".part"], check=True)
        os.rename(file + ".part", file)
    return file


def quartiles(archive):
    with open(archive, "rb") as file:
        sizes = sorted(len(line) for line in file)
    at = lambda part: sizes[int((len(sizes) - 1) * part)]
    return len(sizes), {f"p{int(part * 100)}": at(part) for part in (0.1, 0.5, 0.9, 0.99)}


def cut(archive, size):
    """The archive's first `size` bytes, in whole lines."""
    file = path("slice.json")
    with open(archive, "rb") as source, open(file, "wb") as target:
        data = source.read(size)
        target.write(data[: data.rindex(b"\n") + 1])
    return file


def compressed(archive):
    """The archive as one gzip member and as one zstd frame, both at their tool's usual level."""
    zipped = path("archive.json.gz")
    subprocess.run(f"gzip -6 -c '{archive}' > '{zipped}'", shell=True, check=True)
    framed = path("archive.json.zst")
    script = (
        "import pyarrow, shutil, sys; "
        "shutil.copyfileobj(open(sys.argv[1], 'rb'), pyarrow.CompressedOutputStream(sys.argv[2], 'zstd'), 1 << 20)"
    )
    command = ["zstd", "-q", "-f", "-3", archive, "-o", framed]
    subprocess.run(command if shutil.which("zstd") else [PYTHON, "-c", script, archive, framed], check=True)
    return zipped, framed


def repeated(archive, days):
    """The archive again and again, each time a day later."""
    file = path("repeated.json")
    with open(file, "wb") as target:
        for day in range(days):
            named = b"2026-12-%02dT" % (day + 1)
            with open(archive, "rb") as source:
                while block := source.read(64 << 20):
                    # A day that is cut in two by a block's end keeps its name: a few in a gigabyte.
                    target.write(block.replace(b"2026-11-20T", named))
    return file


# ---- Commands and answers -----------------------------------------------------------------------


def lanner(archive, threads):
    return [LANNER, "replay", "--config", CONFIG, "--threads", str(threads), "--format", "ndjson", archive]


def sql(engine, archive, threads):
    return [PYTHON, ASK, engine, archive, str(threads)]


def rows(out):
    """Answers of tools that print `question<TAB>auditID`."""
    answers = {question: set() for question in QUESTIONS}
    with open(out) as file:
        for line in file:
            question, _, audit_id = line.rstrip("\n").partition("\t")
            answers[question].add(audit_id)
    return answers


def lanner_answers(archive):
    """Every match of the questions' detectors, whatever became of it: later stages of a request are
    duplicates of the first, and name the same request."""
    out = path("each.out")
    measure.run([LANNER, "replay", "--config", CONFIG, "--each", "--format", "ndjson", archive], TWO, out)
    answers = {question: set() for question in QUESTIONS}
    with open(out) as file:
        for line in file:
            match = json.loads(line)
            detector = match["detector"]["id"]
            if detector.startswith("question-"):
                answers[detector.removeprefix("question-")].add(match["evidence"][0]["audit_id"])
    os.remove(out)
    return answers


def lanner_counts(out):
    """How many requests the alerts of the questions' detectors count: the answer of the timed run."""
    counts = dict.fromkeys(QUESTIONS, 0)
    with open(out) as file:
        for line in file:
            alert = json.loads(line)
            detector = alert["detector"]["id"]
            if detector.startswith("question-"):
                counts[detector.removeprefix("question-")] += alert["count"]
    return counts


def rsigma_answers(out):
    answers = {question: set() for question in QUESTIONS}
    with open(out) as file:
        for line in file:
            found = json.loads(line)
            title = found.get("rule_title") or found.get("header", {}).get("rule_title")
            event = found.get("event") or {}
            answers[title].add(event.get("auditID"))
    return answers


def compare(name, answers, reference):
    """Says in one line whether answers are those of DuckDB."""
    differ = []
    for question in QUESTIONS:
        missing = len(reference[question] - answers[question])
        more = len(answers[question] - reference[question])
        if missing or more:
            differ.append(f"{question}: {missing} missing, {more} more")
    return f"{name}: " + ("the same" if not differ else "; ".join(differ)), not differ


# ---- The comparison -----------------------------------------------------------------------------


def section(archive, rounds):
    size = os.path.getsize(archive)
    megabytes = size / 1e6
    records, sizes = quartiles(archive)
    print(f"\n## {os.path.basename(archive)}: {megabytes:,.0f} MB, {records:,} records of {sizes} bytes\n")
    with open(archive, "rb") as file:  # Into the page cache.
        while file.read(64 << 20):
            pass
    zipped, framed = compressed(archive)

    jobs = {
        "wc -l": (["wc", "-l", archive], ONE, path("wc.out")),
        "Lanner, 1 thread": (lanner(archive, 1), ONE, path("lanner1.out")),
        "DuckDB, 1 thread": (sql("duckdb", archive, 1), ONE, path("duckdb1.out")),
        "Lanner, 2 threads": (lanner(archive, 2), TWO, path("lanner2.out")),
        "DuckDB, 2 threads": (sql("duckdb", archive, 2), TWO, path("duckdb2.out")),
        "gzip alone": ([INFLATE, zipped], ONE, path("gzip.out")),
        "Lanner on .gz": (lanner(zipped, 1), ONE, path("lanner-gz.out")),
        "zstd alone": ([INFLATE, framed], ONE, path("zstd.out")),
        "Lanner on .zst": (lanner(framed, 1), ONE, path("lanner-zst.out")),
    }
    all_costs = measure.in_turn(jobs, rounds, say)
    slow = {
        "chdb, 1 thread": (sql("chdb", archive, 1), ONE, path("chdb1.out")),
        "chdb, 2 threads": (sql("chdb", archive, 2), TWO, path("chdb2.out")),
    }
    all_costs |= measure.in_turn(slow, 1, say)
    costs = {name: measure.median(each) for name, each in all_costs.items()}

    # The answers, and how they compare.
    reference = rows(path("duckdb1.out"))
    print("Answers, each a set of audit ids, against DuckDB's: " + ", ".join(f"{q} {len(reference[q])}" for q in QUESTIONS))
    agreed = []
    for name, answers in (
        ("DuckDB with 2 threads", rows(path("duckdb2.out"))),
        ("chdb", rows(path("chdb1.out"))),
        ("Lanner", lanner_answers(archive)),
    ):
        line, same = compare(name, answers, reference)
        agreed.append(same)
        print(f"* {line}")
    counts = lanner_counts(path("lanner1.out"))
    digests = {digest(path(f"lanner{run}.out")) for run in ("1", "2")}
    same = counts == {question: len(reference[question]) for question in QUESTIONS}
    agreed.append(same)
    print(f"* Lanner's alerts in the timed run count {'the same' if same else counts}; {'the same bytes' if len(digests) == 1 else 'OTHER BYTES'} with 1 and 2 threads")

    # Tools that take long, on the beginning of the archive.
    part = cut(archive, SLICE)
    part_megabytes = os.path.getsize(part) / 1e6
    measure.run(sql("duckdb", part, 2), TWO, path("part.out"))
    part_reference = rows(path("part.out"))
    for name, command, read in line_tools(part):
        out = path("tool.out")
        try:
            cost = measure.run(command, ONE, out)
            line, same = compare(name, read(out), part_reference)
        except (measure.Failed, FileNotFoundError, KeyError, ValueError) as error:
            print(f"* {name}: not compared: {str(error).splitlines()[0][:200]}")
            continue
        agreed.append(same)
        print(f"* {line} (on the first {part_megabytes:.0f} MB)")
        scale = megabytes / part_megabytes
        costs[name] = measure.Cost(cost.wall * scale, cost.cpu * scale, cost.memory)

    print("\n| tool | MB/s | MB per CPU-second | peak memory, MiB |\n|---|---|---|---|")
    for name, cost in sorted(costs.items(), key=lambda item: item[1].cpu):
        print(f"| {name} | {megabytes / cost.wall:,.0f} | {megabytes / cost.cpu:,.0f} | {cost.memory:,.0f} |")

    # Ratios are taken round by round, because the machine's speed drifts.
    def ratio(slower, faster, figure):
        pairs = zip(all_costs[slower], all_costs[faster])
        ratios = sorted(getattr(a, figure) / getattr(b, figure) for a, b in pairs)
        return ratios[len(ratios) // 2]

    return agreed, [
        ("replay, 1 thread, against DuckDB with 1 (wall)", "4 ×", "8 ×", f"{ratio('DuckDB, 1 thread', 'Lanner, 1 thread', 'wall'):.1f} × (by CPU {ratio('DuckDB, 1 thread', 'Lanner, 1 thread', 'cpu'):.1f} ×)"),
        ("replay, 2 threads, against DuckDB with 2 (wall)", "4 ×", "9 ×", f"{ratio('DuckDB, 2 threads', 'Lanner, 2 threads', 'wall'):.1f} × (by CPU {ratio('DuckDB, 2 threads', 'Lanner, 2 threads', 'cpu'):.1f} ×)"),
        ("replay against `wc -l`, per CPU-second", "0.25", "0.5", f"{ratio('wc -l', 'Lanner, 1 thread', 'cpu'):.2f}"),
        ("`.gz` replay against decompression alone, per CPU-second", "0.6", "0.8", f"{ratio('gzip alone', 'Lanner on .gz', 'cpu'):.2f}"),
        ("`.zst` replay against decompression alone, per CPU-second", "0.4", "0.6", f"{ratio('zstd alone', 'Lanner on .zst', 'cpu'):.2f}"),
        ("peak memory of replay", "96 MiB", "48 MiB", memory(archive)),
    ]


def digest(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


LEAST_QUOTA = 4 << 20


def memory(archive):
    """Peak memory by size, in MiB."""
    sizes = []
    quarter = cut(archive, os.path.getsize(archive) // 4)
    for name, file in (("quarter", quarter), ("whole", archive)):
        sizes.append((file, measure.run(lanner(file, 2), TWO, path("memory.out")).memory))
    big = repeated(archive, 4)
    sizes.append((big, measure.run(lanner(big, 2), TWO, path("memory.out")).memory))
    text = ", ".join(f"{peak:.0f} MiB at {os.path.getsize(file) / (1 << 20):,.0f} MiB" for file, peak in sizes)
    # What is left when open alerts and incidents may hold next to nothing.
    least = ["env", f"LANNER__ALERT__MEMORY_QUOTA={LEAST_QUOTA}", *lanner(big, 2)]
    peak = measure.run(least, TWO, path("memory.out")).memory
    os.remove(big)
    quota = LEAST_QUOTA >> 20
    # Open alerts and open incidents have the quota each.
    beside = peak - 2 * quota
    return f"{text}; {peak:.0f} MiB at the last with a memory-quota of {quota} MiB, so {beside:.0f} MiB beside both"


def line_tools(archive):
    """Tools that judge a record at a time: name, command, how to read the answer."""
    jq = os.path.join(HERE, "questions.jq")
    jaq = path("bin/jaq") if os.path.exists(path("bin/jaq")) else shutil.which("jaq")
    if jaq:
        yield "jaq", [jaq, "-r", "-f", jq, archive], rows
    elif shutil.which("jq"):
        yield "jq", ["jq", "-r", "-f", jq, archive], rows
    rsigma = path("bin/rsigma")
    if os.path.exists(rsigma):
        yield "rsigma, 6 rules", rsigma_command(rsigma, archive), rsigma_answers


# The event, with the client's address alone: a Sigma rule looks at all of a list.
RSIGMA_EVENT = """select(.category == "kube-audit" or .category == "kube-audit-admin")
| .properties.log | fromjson | select(.stage != "RequestReceived")
| .sourceIPs = ((.sourceIPs // []) | if length > 1 and (.[-1] | startswith("172.31.")) then [.[-2]] else [.[-1]] end)"""


def rsigma_command(rsigma, archive):
    rules = os.path.join(HERE, "sigma")
    command = [rsigma, "engine", "eval", "--quiet", "--rules", rules, "--event", "@" + archive]
    return command + ["--jq", RSIGMA_EVENT, "--include-event", "--output-format", "ndjson"]


def bench(name, archive, *flags):
    command = ["cargo", "bench", "--quiet", "--bench", name, "--", archive, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        say(done.stderr[-2000:])
        return ""
    print(f"\n`{' '.join(command[:5])}`\n\n```text\n{done.stdout.strip()}\n```")
    return done.stdout


def field(text, line, column):
    found = re.search(rf"^{line} +(.*)$", text, re.M)
    return float(found.group(1).split()[column]) if found else None


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--bytes", type=int, default=1 << 30, help="of the simulator's archive")
    arguments.add_argument("--no-live", action="store_true", help="leave out the benchmarks of detectors and of the daemon")
    arguments.add_argument("archives", nargs="*")
    given = arguments.parse_args()
    archives = [os.path.abspath(archive) for archive in given.archives] or [simulated(given.bytes)]
    load = os.getloadavg()[0]
    print(f"{measure.cpu_name()}, {os.cpu_count()} CPUs, load {load:.1f} before the start; {given.rounds} rounds in turn, medians")
    tables, agreed = [], []
    for archive in archives:
        answers, table = section(archive, given.rounds)
        agreed += answers
        tables.append((os.path.basename(archive), table))
    more = []
    if not given.no_live:
        detect = bench("detect", archives[0])
        if (ratio := field(detect, "1500", 1)) is not None:
            more.append(("1,500 detectors against 150", "1.2 × the time", "1.05 ×", f"{ratio:.2f} ×"))
        live = bench("live", archives[0])
        if (ratio := field(live, "daemon", 2)) is not None:
            more.append(("live over loopback, per CPU-second, against the official client discarding", "0.7", "0.9", f"{ratio:.2f}"))
        if found := re.search(r"^published to webhook.*$", live, re.M):
            more.append(("published to webhook", "reported", "", found.group(0).split(": ", 1)[1]))
    names = [name for name, _ in tables]
    print("\n| what | at least | aim | " + " | ".join(f"measured, {name}" for name in names) + " |\n|---|---|---|" + "---|" * len(names))
    for at, (what, least, aim, _) in enumerate(tables[0][1]):
        print(f"| {what} | {least} | {aim} | " + " | ".join(table[at][3] for _, table in tables) + " |")
    for what, least, aim, measured in more:
        print(f"| {what} | {least} | {aim} | {measured} |" + " |" * (len(names) - 1))
    print("\nAll answers agree." if all(agreed) else "\nNot all answers agree: see above.")
    sys.exit(not all(agreed))


if __name__ == "__main__":
    main()
