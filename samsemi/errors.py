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

Everything else that is raised is a bug of samsemi and keeps its traceback (exit code 1).
"""


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


def is_out_of_memory(error: Exception) -> bool:
    """True for Python's and torch's out-of-memory errors, without importing torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    messages = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in messages)
