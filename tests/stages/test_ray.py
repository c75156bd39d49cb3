"""Mining by the workers of a real Ray cluster on this machine."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from builders import MINING, hdf5_values, refused
from launched import ENVIRONMENT

from samsemi.mining.store_writer import parts_of

CLUSTER = """
import ray
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, logging_level="ERROR")
from samsemi import cli
cli.run()
"""


def find_workers(token: str) -> list[int]:
    """The processes of this test's cluster that are mining, or are about to."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker.") and token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")
def test_workers_of_ray_mine_the_store_of_one_process_although_one_is_killed(dataset, warm, store, tmp_path):
    out, token = tmp_path / "s.h5", f"of-test-{os.getpid()}"
    environment = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "SAMSEMI_TEST": token}
    words = ["mine", dataset, "--model", warm, "--out", out, *MINING, "--device", "cpu", "--engine", "ray", "--json"]
    command = [sys.executable, "-c", CLUSTER, *map(str, words)]
    killed = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            at_work = find_workers(token)
            if len(at_work) == 2 and not killed and parts_of(out).exists():
                killed = at_work[0]
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.1)
        told = process.communicate()
    assert process.returncode == 0, told
    assert killed, "both were at work, and one of them was killed"
    assert hdf5_values(out) == hdf5_values(store)


def test_ray_takes_no_cache_of_one_process():
    refused(2, "mine", "d", "--model", "m", "--out", "s.h5", "--engine", "ray", "--embeddings", "c.h5", said=("--engine ray",))


def test_ray_that_is_not_installed_is_wrong_usage(dataset, warm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(2, "mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--engine", "ray", said=("ray is not installed",))
