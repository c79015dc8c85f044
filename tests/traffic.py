"""Live traffic on a server: random for its seed, from processes of its own.

    with Traffic(source, clients=4, rate=2000) as traffic:
        ...
    traffic.written   # commands answered, all clients together

A client whose server goes away tries again until it is back. `python -m tests.traffic` is what such a process
runs.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from types import TracebackType

import redis

from tests import bank
from tests.commands import MIXES, SCRATCH, Operation
from tests.dataset import fill
from tests.servers import Server, die_with_parent

__all__ = ["Traffic", "fill"]

DATABASES = (0, 0, 0, 3, 7)  # where writes go, the first most often
SCRATCH_EVERY = 400  # batches between two FLUSHDB of the scratch database


@dataclass(frozen=True)
class Plan:
    """What one client does."""

    port: int
    seed: int
    mix: str
    rate: int  # commands a second, 0: as many as the server takes
    transfers: bool  # now and then a transaction over the accounts of `bank`
    databases: tuple[int, ...] = DATABASES


class Client:
    """One client of the traffic, run in its own process until SIGTERM."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        names = MIXES[plan.mix]
        self.operations: list[Operation] = [operation for _weight, operation in names.values()]
        self.weights = [weight for weight, _operation in names.values()]
        self.swaps = plan.mix in ("exact", "all", "all-9", "uncopied-9")
        self.batch = max(1, min(200, plan.rate // 50)) if plan.rate else 200
        self.written = 0
        self.batches = 0
        self.stopping = False

    def stop(self, *_args: object) -> None:
        self.stopping = True

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("ready", flush=True)
        began = time.monotonic()
        client = redis.Redis(port=self.plan.port, protocol=2, socket_timeout=60)
        while not self.stopping:
            try:
                self._batch(client)
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.02)
            if self.plan.rate:
                ahead = self.written / self.plan.rate - (time.monotonic() - began)
                time.sleep(min(max(0.0, ahead), 1.0))
        return self.written

    def _batch(self, client: redis.Redis) -> None:
        rng, pipe = self.rng, client.pipeline(transaction=False)
        self.batches += 1
        if self.swaps and self.batches % SCRATCH_EVERY == 0:
            pipe.execute_command("SELECT", SCRATCH)
            pipe.execute_command("FLUSHDB")
        pipe.execute_command("SELECT", rng.choice(self.plan.databases))
        for operation in rng.choices(self.operations, self.weights, k=self.batch):
            pipe.execute_command(*operation(rng))
        if self.plan.transfers:
            pipe.execute_command("SELECT", 0)
            bank.transfer(pipe, rng)
        # Refusals (no such key, MOVE of a key that is there) are part of life: not propagated, not counted.
        answers = pipe.execute(raise_on_error=False)
        self.written += sum(not isinstance(answer, Exception) for answer in answers)


class Traffic:
    """`clients` processes that write to `server`; made to be used as a context manager.

    Args:
        server: where to.
        clients: how many processes.
        rate: commands a second of all together, 0 for full speed.
        mix: a name of `tests.commands.MIXES`; "all" takes what the server's version knows.
        transfers: also move money between the accounts of `tests.bank`, which must be open.
        seed: same seed, same commands (their interleaving differs).
    """

    def __init__(
        self,
        server: Server,
        *,
        clients: int = 4,
        rate: int = 2000,
        mix: str = "all",
        transfers: bool = False,
        seed: int = 1,
        databases: tuple[int, ...] = DATABASES,
    ) -> None:
        if mix == "all" and server.kind.startswith("valkey") and server.version >= (9, 0):
            mix = "all-9"
        share = max(1, rate // clients) if rate else 0
        self.plans = [
            Plan(server.port, seed * 100 + i, mix, share, transfers, databases) for i in range(clients)
        ]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.written = 0

    def start(self) -> Traffic:
        for plan in self.plans:
            command = [sys.executable, "-m", "tests.traffic", json.dumps(asdict(plan))]
            self.processes.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            )
        for process in self.processes:  # one that is told to stop before it listens would die of it
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        return self

    def stop(self) -> int:
        """Ask all clients to finish their batch, wait for them; what they have written."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            out, _ = process.communicate(timeout=90)
            assert process.returncode == 0, f"a traffic client died with {process.returncode}"
            self.written += int(out)
        self.processes = []
        return self.written

    def __enter__(self) -> Traffic:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
            return
        for process in self.processes:
            process.kill()
            process.wait()


def main() -> None:
    plan = json.loads(sys.argv[1])
    print(Client(Plan(**{**plan, "databases": tuple(plan["databases"])})).run(), flush=True)


if __name__ == "__main__":
    main()
