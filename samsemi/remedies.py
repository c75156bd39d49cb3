"""What to do where a file that samsemi wrote is damaged, or of another version: how each kind is made again; and where an extra is missing.
Hints of errors."""

RUN = "start the run again with --overwrite"
MODEL = "train the model again, or use the samsemi that wrote it"
FOLDS = "train the model again with `samsemi warmstart --folds 5`"
SAM = "adapt the SAM again, or use the samsemi that wrote it"
TEACHER = "run `samsemi distill` again, or use the samsemi that wrote it"
STORE = "mine it again with --overwrite"


def install(extra: str) -> str:
    """The command that installs what an extra needs."""
    return f"pip install 'samsemi[{extra}]'"
