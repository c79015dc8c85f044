"""Work done by several processes at the same time."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PROCESSES = 8


def in_processes(work: Callable[[int], Any]) -> list[Any]:
    """The results of `work(number)` in forked processes that begin together."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)

    def run(number: int, answer: Connection) -> None:
        try:
            barrier.wait(20)
            answer.send((True, work(number)))
        except BaseException:
            answer.send((False, traceback.format_exc()))
        finally:
            os._exit(0)

    pipes = []
    children = []
    for number in range(PROCESSES):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=run, args=(number, theirs))
        child.start()
        theirs.close()
        pipes.append(mine)
        children.append(child)
    results = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join(10)
    for fine, value in results:
        assert fine, value
    return [value for _, value in results]
