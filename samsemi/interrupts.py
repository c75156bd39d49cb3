"""The signals that end a command: Ctrl-C, SIGTERM of a cluster, SIGHUP of a terminal that is closed. A second one acts at once."""

import _thread
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
EXIT_CODE = 130
RESEND = 0.01
"""Seconds after which a signal that was lost is sent again."""
LOG = logging.getLogger("samsemi")


def stop(number: int, frame: object) -> None:
    """What a signal does: KeyboardInterrupt, wherever the command is."""
    leave_terminal(number)
    raise KeyboardInterrupt


def leave_terminal(number: int) -> None:
    """After SIGHUP show nothing more on a terminal, which may be gone: writing to it would fail."""
    for descriptor in (1, 2) if number == getattr(signal, "SIGHUP", None) else ():
        with suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def handled(handler: Any) -> Iterator[None]:
    """Signals go to a handler; those that the shell has turned off, as nohup does, stay off. Afterwards all is as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


@contextmanager
def watched() -> Iterator[None]:
    """Signals end the command; also one that struck where Python drops errors, such as in a destructor: it is sent again."""
    report = sys.unraisablehook

    def send_again(lost: Any) -> None:
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(RESEND, _thread.interrupt_main).start()  # at once it would strike here, and be dropped again
        else:
            report(lost)

    with handled(stop):
        sys.unraisablehook = send_again
        try:
            yield
        finally:
            sys.unraisablehook = report


@contextmanager
def held() -> Iterator[list[int]]:
    """Signals wait for the end of what is being done: the list is no longer empty once one came. A second one acts at once."""
    arrived: list[int] = []

    def hold(number: int, frame: object) -> None:
        if arrived:
            stop(number, frame)
        leave_terminal(number)
        arrived.append(number)
        with suppress(RuntimeError):  # in the middle of another line
            LOG.info("stopping after this step")

    with handled(hold):
        yield arrived


def ignore() -> None:
    """From now on signals do nothing: the process is ending, or another one answers them."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
