"""A stop is heard, wherever the program is when it comes."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal
from sync_tasks.cli import signals

class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]

signals.raise_on_stop()
deaf = Deaf()
del deaf
counted = signals.Signals()
try:
    counted.check()
except signals.Interrupted as stop:
    print(stop.exit_code)
"""


def test_one_whose_exception_nobody_can_hear() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30)
    assert done.stdout == "143\n", done.stderr
