"""The errors that a user can cause, one class per exit code.

    SamsemiError          message: what and where; hint: what to do next
      UsageError      2   an option or configuration key that cannot be
      RefusedError    3   an output that exists, a changed configuration
      DataError       4   images, masks, manifests
        ChangedFile   4   an image or mask that is no longer the file that was prepared
        TruncatedFile 4   a file that is damaged or ends too soon
        WrongValues   4   pixels that no image, or no mask, may have
        ProblemsFound 4   a data set with problems; result: what was found in it
      CheckpointError 5   checkpoints and pseudo-label stores
      DeviceError     6   no such device, out of memory
      NothingUsable   7   finished, but nothing came of it
      EndedElsewhere      another process of the command has said what went wrong

Everything else that is raised is a bug of samsemi and keeps its traceback (exit code 1).
"""

import errno

NO_DEVICE = ("no kernel image is available", "CUDA-capable device", "CUDA driver version", "CUDA unknown error")
"""What torch says of a GPU that is there and cannot be used: too old or too new for it, taken by others, or with another driver."""
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
NOT_COMPILED = "BackendCompilerFailed"
"""The kind of what torch raises where it cannot compile a network."""
WORKER_GONE = "DataLoader worker (pid"
"""How torch begins to say that a process that loads images was ended from outside."""


class SamsemiError(Exception):
    """A foreseeable failure: ``message`` says what and where, ``hint`` what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str):
        super().__init__(message, hint)  # both, so that it survives the way back from a worker process
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(SamsemiError):
    exit_code = 2


class RefusedError(SamsemiError):
    exit_code = 3


class DataError(SamsemiError):
    exit_code = 4


class ChangedFile(DataError):
    pass


class TruncatedFile(DataError):
    pass


class WrongValues(DataError):
    pass


class ProblemsFound(DataError):
    def __init__(self, message: str, hint: str, result: dict[str, object] | None = None):
        super().__init__(message, hint)
        self.result = result


class CheckpointError(SamsemiError):
    exit_code = 5


class DeviceError(SamsemiError):
    exit_code = 6


class NothingUsable(SamsemiError):
    exit_code = 7


class EndedElsewhere(SamsemiError):
    """What another process of the command has raised, and says."""

    def __init__(self, error: SamsemiError):
        super().__init__(error.message, error.hint)
        self.exit_code = error.exit_code


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch or the system lacks memory. Imports no torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError):
        return any(said in str(error) for said in NO_MEMORY)
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


def device_error(error: Exception) -> DeviceError | None:
    """What Python or torch raises where the machine lacks something, as an error of ours; None for anything else. Imports no torch."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if WORKER_GONE in text:
        return DeviceError(
            f"a process that loads images was ended from outside, by lack of memory or by somebody: {text.splitlines()[0]}",
            "go on with --resume and fewer --workers; 0 loads in this process",
        )
    if is_out_of_memory(error):
        return DeviceError(f"out of memory: {error}", "lower --batch-size or --size, or take a smaller --sam")
    if any(kind.__name__ == NOT_COMPILED for kind in type(error).__mro__):
        return DeviceError(
            f"--compile: torch cannot compile the network here: {text.splitlines()[0]:.300}",
            "leave --compile out; it needs a C++ compiler, such as g++, and a cache that is whole ($TORCHINDUCTOR_CACHE_DIR)",
        )
    if any(said in text for said in NO_DEVICE):
        return DeviceError(f"the GPU cannot be used: {error}", "give --device cpu, or see `samsemi info` for what is there")
    return None
