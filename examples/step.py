"""One samsemi command, run only where it has not ended with the same inputs before: python examples/step.py OUT NAME COMMAND...

OUT/steps/NAME.json keeps the command, a checksum of its words and of the contents of all files that they name, its seconds and its
result. Where `mine` accepts nothing (exit code 7), that is a result: it is kept as "code", and given again.
A command that was stopped goes on; one whose inputs have changed since starts again. Every script of examples/ runs by it.
"""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

RESUMED = ("warmstart", "adapt", "mine", "finetune", "distill")
WRITTEN = ("--out", "--embeddings")
"""Options that name what a command writes: its contents are no input."""
NOTHING_ACCEPTED = 7
"""Exit code of a command that finished with nothing usable."""


def run_step(folder: Path, name: str, words: Sequence[str], flags: Sequence[str] = (), log: IO[str] | None = None) -> int:
    """The exit code of the command; ``flags`` change nothing that it makes. Its messages go to ``log``."""
    file = folder / "steps" / f"{name}.json"
    record = json.loads(file.read_text()) if file.exists() else {}
    checksum = sum_inputs(words)
    if record.get("checksum") == checksum and "result" in record and all(path.exists() for path in outputs(words)):
        return record.get("code", 0)
    changed = record.get("checksum", checksum) != checksum
    write_record(file, {"command": list(words), "checksum": checksum})
    start = time.monotonic()
    command = [sys.executable, "-m", "samsemi", *words, *start_flags(words, changed), "--json", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
    kept = {"command": list(words), "checksum": checksum, "seconds": time.monotonic() - start}
    if done.returncode == 0:
        write_record(file, {**kept, "result": json.loads(done.stdout)})
    elif done.returncode == NOTHING_ACCEPTED and words[0] == "mine":
        write_record(file, {**kept, "code": NOTHING_ACCEPTED, "result": {}})
    return done.returncode


def stand_in(folder: Path, arm: str) -> str | None:
    """The model that was evaluated in place of an arm which accepted nothing: its labeled-only one; None where it is the arm's own."""
    file = folder / "steps" / f"eval-{arm}.json"
    command = json.loads(file.read_text())["command"] if file.exists() else []
    model = Path(command[command.index("--model") + 1]).name if "--model" in command else arm
    return model if model != arm else None


def start_flags(words: Sequence[str], changed: bool) -> list[str]:
    if "--out" not in words:
        return []
    return ["--resume"] if words[0] in RESUMED and not changed else ["--overwrite"]


def sum_inputs(words: Sequence[str]) -> str:
    """SHA-256 of the words and of the files that they name, those of folders included."""
    found = hashlib.sha256(json.dumps(list(words)).encode())
    for word, before in zip(words, ("", *words), strict=False):
        if before not in WRITTEN:
            for path in files_of(Path(word)):
                found.update(f"{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def files_of(path: Path) -> Iterator[Path]:
    """A file itself; the files below a folder in the order of their names; nothing where there is neither."""
    yield from [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []


def outputs(words: Sequence[str]) -> list[Path]:
    return [Path(word) for before, word in zip(words, words[1:], strict=False) if before == "--out"]


def write_record(file: Path, record: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    folder, name, *words = sys.argv[1:]
    for interruption in (signal.SIGINT, signal.SIGTERM):  # the command saves its state and ends; this waits for it
        signal.signal(interruption, lambda *_: None)
    sys.exit(run_step(Path(folder), name, words))


if __name__ == "__main__":
    main()
