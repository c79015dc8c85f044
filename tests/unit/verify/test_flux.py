"""What counts as a lasting difference, on a made-up pair of servers whose target is late."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workers.verify.flux import Patience, Token

State = Callable[[float], Token]


class World:
    """Time that only sleeping and reading move, and states as functions of it."""

    def __init__(self, source: dict[str, State], target: dict[str, State]) -> None:
        self.now = 0.0
        self.states = (source, target)
        self.reads = 0
        self.patience = Patience(sleep=self.sleep, clock=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _read(self, side: int, things: Sequence[str]) -> list[Token]:
        tokens = []
        for thing in things:
            self.now += 0.00005  # of two threads that read in turns
            self.reads += 1
            tokens.append(self.states[side][thing](self.now))
        return tokens

    def lasting(self) -> list[str]:
        return self.patience.lasting(
            list(self.states[0]), lambda things: self._read(0, things), lambda things: self._read(1, things)
        )


def late(state: State, seconds: float) -> State:
    return lambda now: state(now - seconds)


def counter(per_second: float, ahead: int = 0) -> State:
    return lambda now: b"%d" % (int(now * per_second) + ahead)


def fixed(token: Token) -> State:
    return lambda now: token


def test_equal_at_the_first_re_check() -> None:
    world = World({"a": fixed(b"1")}, {"a": fixed(b"1")})
    assert world.lasting() == []
    assert world.now < 1
    assert world.patience.rechecked == 1


def test_nothing_to_do_takes_no_time() -> None:
    world = World({}, {})
    assert world.lasting() == []
    assert world.now == 0


def test_a_steady_difference_lasts_after_some_seconds() -> None:
    world = World({"a": fixed(b"1"), "b": fixed(None)}, {"a": fixed(b"2"), "b": fixed(b"1")})
    assert world.lasting() == ["a", "b"]
    assert 5 < world.now < 10


def test_a_write_on_its_way_passes() -> None:
    def write(now: float) -> Token:
        return b"old" if now < 0.1 else b"new"

    world = World({"a": write}, {"a": late(write, 3.0)})
    assert world.lasting() == []


def test_a_counter_that_never_rests_is_followed() -> None:
    for per_second in (20, 1000, 20_000):
        world = World({"a": counter(per_second)}, {"a": late(counter(per_second), 0.004)})
        assert world.lasting() == [], per_second
    assert world.patience.in_flux == 1


def test_a_target_that_shows_only_the_ends_of_windows_is_followed() -> None:
    def windows(now: float) -> Token:
        return counter(5000)(int((now - 0.003) / 0.005) * 0.005)

    assert World({"a": counter(5000)}, {"a": windows}).lasting() == []


def test_a_counter_that_is_off_lasts() -> None:
    for ahead in (10**9, -(10**6)):
        world = World({"a": counter(1000)}, {"a": late(counter(1000, ahead), 0.004)})
        assert world.lasting() == ["a"], ahead
        assert world.patience.in_flux == 0


def test_a_target_that_is_stuck_lasts_though_the_source_comes_by() -> None:
    """Queues are empty now and then: that the target is empty, too, proves nothing."""

    def queue(now: float) -> Token:
        return b"%d" % (now * 1000) if int(now * 1000) % 97 else None

    assert World({"a": queue}, {"a": fixed(None)}).lasting() == ["a"]
    assert World({"a": queue}, {"a": fixed(b"lost")}).lasting() == ["a"]
    assert World({"a": queue}, {"a": late(queue, 0.0043)}).lasting() == []


def test_one_that_lasts_is_told_from_others_that_pass() -> None:
    source = {f"k{i}": counter(500 + i) for i in range(100)}
    target = {name: late(state, 0.003) for name, state in source.items()}
    target["k7"] = fixed(b"lost")
    assert World(source, target).lasting() == ["k7"]


def test_what_passes_soon_is_not_waited_for() -> None:
    def write(now: float) -> Token:
        return b"old" if now < 0.01 else b"new"

    world = World({"a": write}, {"a": late(write, 0.005)})
    assert world.lasting() == []
    assert world.now < 0.1


def test_slow_reading_is_a_pause_by_itself() -> None:
    """Re-checks of very many keys: each takes longer than the short pauses between them."""
    world = World({"a": fixed(b"1")}, {"a": fixed(b"2")})
    quick, rounds = world._read, []

    def slow(side: int, things: Sequence[str]) -> list[Token]:
        world.now += 0.25
        rounds.append(world.now)
        return quick(side, things)

    world._read = slow  # type: ignore[method-assign]
    assert world.lasting() == ["a"]
    assert len(rounds) / 2 == 5, "the first re-check, and those after 0.7, 1.0, 1.5 and 2.2 s"
    assert world.now > 5
