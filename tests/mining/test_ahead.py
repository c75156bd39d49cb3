import threading

import pytest
import torch

from samsemi.mining.ahead import batches_ahead, read_ahead


def test_batches_are_read_while_others_are_used_and_come_in_their_order():
    """The third is being read while the first is used, and the first although the second is done before it."""
    second_done, third_begun = threading.Event(), threading.Event()

    def read(number: int) -> int:
        if number == 0:
            assert second_done.wait(30)
        if number == 1:
            second_done.set()
        if number == 2:
            third_begun.set()
        return 10 * number

    ahead = read_ahead(read, range(6), 2)
    assert next(ahead) == 0 and third_begun.wait(30)
    assert list(ahead) == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_cannot_be_read_is_raised_where_it_is_asked_for(ahead):
    def read(number: int) -> int:
        return 1 // (2 - number)

    found = read_ahead(read, range(9), ahead)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_a_cpu_reads_nothing_ahead():
    begun = []
    found = read_ahead(begun.append, range(3), batches_ahead(torch.device("cpu")))
    next(found)
    assert begun == [0] and batches_ahead(torch.device("cuda")) > 0
