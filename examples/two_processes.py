"""How much faster two processes mine than one, beside the same of plain matrix products, in turn on this machine.

    python examples/two_processes.py DATASET MODEL [options of samsemi mine]

One thread each. Mining is timed as `samsemi mine` itself does, without the start of Python; the processor's time is that of the processes
from their start on. Where two hardware threads are those of one core, or other jobs run, the products say what two processes can gain.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS, SIDE, PRODUCTS = 3, 1024, 20
PRODUCT = f"""
import time, torch
a = torch.rand({SIDE}, {SIDE})
a @ a
start = time.monotonic()
for _ in range({PRODUCTS}):
    a @ a
print(time.monotonic() - start)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def mine(words: list[str], processes: int) -> float:
    """Images per second."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "s.h5"), "--no-calibrate", "--json", "--quiet"]
        command = [sys.executable, *launcher, "-m", "samsemi", "mine", *words, *out]
        done = subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["images_per_second"]


def multiply(processes: int) -> float:
    """Products per second of all processes."""
    command = [sys.executable, "-c", PRODUCT]
    started = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(PRODUCTS / float(process.communicate()[0]) for process in started)


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    dataset, model, *options = sys.argv[1:]
    words = [dataset, "--model", model, *options]
    rates: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, run in (("mine", lambda count: mine(words, count)), ("products", multiply)):
            for processes in (1, 2):
                before = processor_seconds()
                rates.setdefault(f"{name} {processes}", []).append(run(processes))
                seconds.setdefault(f"{name} {processes}", []).append(processor_seconds() - before)
    found = {f"{name}, per second": statistics.median(values) for name, values in rates.items()}
    found |= {f"{name}, processor seconds": statistics.median(values) for name, values in seconds.items()}
    for name in ("mine", "products"):
        ratios = [two / one for one, two in zip(rates[f"{name} 1"], rates[f"{name} 2"], strict=True)]
        found[f"{name}, two over one"] = statistics.median(ratios)
    print(json.dumps({"processors": os.cpu_count(), **found}, indent=2))


if __name__ == "__main__":
    main()
