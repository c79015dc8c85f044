"""What the stream writes is compared shortly after: nothing is said without cause, what somebody planted is named."""

from __future__ import annotations

from sync_tasks import Client
from sync_tasks.verification import Touched
from tests.run_up import Up
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until


def test_what_is_written_over_what_was_planted(service: Up, server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    ours, theirs = source.client(), target.client()
    ours.rpush("planted", 0)
    with Client(service.state) as client, Traffic(source, clients=2, rate=1000):
        settings = {"mode": "full+incremental", "keys_per_s": 300}
        task = client.create(source.url(), target.url(), name="a", verify=settings)  # type: ignore[arg-type]
        client.start(task)

        def found() -> Touched:
            some = client.touched(task)
            return some if some is not None else Touched(0, 0, {}, 0, (), None)

        until(lambda: found().compared > 1000, "keys that were compared", timeout=90)
        assert found().differences == 0, found()
        owner = service.find("stream worker", child=True)[0]
        owner.kill()  # it is counted on
        theirs.rpush("planted", "theirs")

        def written() -> bool:
            ours.rpush("planted", 1)
            try:
                return bool(until(lambda: found().keys, "it is named", timeout=12))
            except AssertionError:
                return False  # it was not among the sampled ones

        assert any(written() for _ in range(5)), found()
        (named,) = found().keys
        assert (named.db, named.key, named.kind) == (0, "planted", "value")
        assert found().compared > 1000
        (event,) = [event for event in client.events(task) if event.kind == "differs"]
        assert "value db 0 planted" in event.text
        mended = client.verify(task, 90, repair=True)
        assert [(key.key, key.repaired) for key in mended.keys] == [("planted", True)]

        def healed() -> bool:
            ours.rpush("planted", 2)
            try:
                until(lambda: not found().keys, "it is equal", timeout=12)
            except AssertionError:
                return False
            return True

        assert any(healed() for _ in range(5)), found()
        assert "agrees" in [event.kind for event in client.events(task)]
        assert found().counts == {"missing": 0, "extra": 0, "type": 0, "value": 1, "expiry": 0}
        until(lambda: ours.lrange("planted", 0, -1) == theirs.lrange("planted", 0, -1), "the list is the source's")
