"""Runs a command as a whole process and says what it cost, by the kernel's own account."""

import dataclasses
import os
import statistics
import time


@dataclasses.dataclass
class Cost:
    wall: float
    # User and system seconds of all threads.
    cpu: float
    # Peak resident memory in MiB. What this script holds itself (some 12 MiB) is the least it can say.
    memory: float


class Failed(Exception):
    pass


def run(command, cpus, out, stdin=None):
    """Runs `command` on `cpus` with its standard output in the file `out`."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.sched_setaffinity(0, cpus)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(stdin or "/dev/null", os.O_RDONLY), 0)
            os.dup2(os.open(out, flags, 0o644), 1)
            os.dup2(os.open(out + ".err", flags, 0o644), 2)
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - start
    if status != 0:
        with open(out + ".err", errors="replace") as file:
            raise Failed(f"{' '.join(command)}: {status}\n{file.read()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(costs):
    """Each figure's median."""
    return Cost(
        *(statistics.median(getattr(cost, field.name) for cost in costs) for field in dataclasses.fields(Cost))
    )


def in_turn(jobs, rounds, say):
    """Runs all jobs one after the other, `rounds` times, and gives the costs of each. Whatever else
    the machine does hits them alike. `jobs` are (command, cpus, out) by name."""
    costs = {name: [] for name in jobs}
    for number in range(rounds):
        for name, (command, cpus, out) in jobs.items():
            cost = run(command, cpus, out)
            costs[name].append(cost)
            say(f"round {number + 1}: {name}: {cost.wall:.2f} s, {cost.cpu:.2f} CPU-s, {cost.memory:.0f} MiB")
    return costs


def cpu_name():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else "unknown CPU"
