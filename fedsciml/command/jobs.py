"""Calls side by side, each in a process of its own."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

C = TypeVar("C")
T = TypeVar("T")


def results(
    call: Callable[[C], T],
    cases: Sequence[C],
    jobs: int,
    threads: int,
    apart: bool = False,
) -> Iterator[tuple[C, T]]:
    """What a function makes of each case, in the order of the ends.

    Args:
        call: The function; processes find it by its name.
        cases: Its arguments.
        jobs: Calls side by side, each in a process of its own; 1 is this one.
        threads: Of each call.
        apart: Every call has a new process.
    """
    if jobs == 1 and not apart:
        torch.set_num_threads(threads)
        yield from ((case, call(case)) for case in cases)
        return
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(threads,),
        max_tasks_per_child=1 if apart else None,
    )
    with pool:
        calls = {pool.submit(call, case): case for case in cases}
        try:
            for done in as_completed(calls):
                yield calls[done], done.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # a SIGTERM that they do not hear of
                for process in multiprocessing.active_children():
                    process.terminate()
            raise
