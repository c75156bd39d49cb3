"""Commands that two processes do together: started by torchrun, or, where one of them has to be ended, by hand.

As a script: the commands of a JSON file, one after the other. Batch norm and dropout are as when nothing is trained, so that what one image
gives does not depend on which others a process has beside it; and the last state of a training is kept, in full precision.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from builders import ROOT, on_cpu

from samsemi import cli
from samsemi.training import runs

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def freeze(change: Callable[[object, str, object], None]) -> None:
    """Change what is said above: ``change`` is setattr, or a test's."""
    for kind in (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd):
        change(kind, "train", lambda module, mode=True: torch.nn.Module.train(module, False))
    change(runs, "remove_state", lambda folder: None)


def launch(commands: Sequence[tuple], script: Path) -> subprocess.CompletedProcess:
    """Two processes of torchrun; ``script`` is where to write the commands."""
    script.write_text(json.dumps([on_cpu(command) for command in commands]))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(script)]
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)


def start_two(command: tuple, second: str = "") -> list[subprocess.Popen]:
    """Two processes without a launcher; ``second`` is code that the second one runs first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank, before in enumerate(("", second)):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        words = [sys.executable, "-c", f"{before}\nfrom samsemi import cli; cli.run()", *on_cpu(command)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(words, env={**ENVIRONMENT, **place}, **pipes))
    return started


if __name__ == "__main__":
    freeze(setattr)
    codes = [cli.main(command) for command in json.loads(Path(sys.argv[1]).read_text())]
    sys.stdout.flush()
    os._exit(max(codes))
