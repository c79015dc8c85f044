"""A cut-over gone through without changing anything: of each step, whether it would pass."""

from __future__ import annotations

from sync_tasks.states import TaskState
from sync_tasks.verify_spec import VerifySpec
from workers.finish import QUIET_S
from workers.finish_base import Turn, delay_of
from workers.finish_verify import how
from workers.verify.pairs import keys_in_scope
from workers.way_back import is_kept
from workers.writers import in_words, quiet


class DryFinish(Turn):
    """One turn, which is all."""

    def turn(self) -> None:
        """Tell of each step."""
        try:
            self._delay()
            self._who_writes()
            self._expiries()
            self._back()
            self._pauses()
            self._behind()
            self._compares()
        finally:
            self.close()

    def _delay(self) -> None:
        with self.steps.step("delay") as step:
            delays = [delay_of(node) for node in self.nodes]
            if None in delays or self.task.state is not TaskState.SYNCHRONIZING:
                step.fail(f"it is {self.task.state.value}: it would wait until it follows")
                return
            worst = max(delay for delay in delays if delay is not None)
            step.text = f"{worst:.0f} ms, the threshold is {self.asked.delay_threshold_ms} ms"
            if worst >= self.asked.delay_threshold_ms:
                step.fail(f"{step.text}: it would wait")

    def _who_writes(self) -> None:
        with self.steps.step("writers") as step:
            found = []
            for node in self.nodes:
                counts, clients = quiet(self._writers(node), QUIET_S, self._sleep, self._concerns(node))
                if counts:
                    found.append(f"node {node.number}: {in_words(counts, clients)}")
            if not found:
                step.text = f"no client has written to the source for {QUIET_S:g} s"
            elif self.asked.pause:
                step.warn(f"{'; '.join(found)}: their writes would be paused")
            elif self.asked.force:
                step.warn(f"{'; '.join(found)}: what they write behind the end would not be carried")
            else:
                step.fail(f"{'; '.join(found)}: stop them, or say --pause")

    def _expiries(self) -> None:
        with self.steps.step("expiries") as step:
            held = [node.held for node in self.nodes]
            count = "an unknown number" if None in held else str(sum(one for one in held if one is not None))
            extended = self.task.spec.extend_expiry_s
            more = f"carry {extended} s more than the source's, which is taken off" if extended else "are the source's"
            step.text = f"{count} are held; the others {more}"

    def _back(self) -> None:
        with self.steps.step("way back") as step:
            if is_kept(self.target):
                step.text = "the target keeps a backlog"
            elif self.asked.way_back or self.asked.reverse:
                step.text = "the target keeps no backlog: it would be made to by asking for its stream"
            else:
                step.skip("the target keeps no backlog, and is not to be made to")

    def _pauses(self) -> None:
        with self.steps.step("pause") as step:
            ways = [self._means(node) for node in self.nodes]
            words = ", ".join(dict.fromkeys(way.words for way in ways))
            possible = all(way.pause or way.setting for way in ways)
            if not self.asked.pause:
                step.skip(f"not asked for; {words}")
            elif possible:
                step.text = words
            else:
                step.fail(words)

    def _behind(self) -> None:
        with self.steps.step("drain") as step:
            told = []
            for node in self.nodes:
                goal, found = self._writers(node).look(), self._checkpoint(node)
                behind = None if found is None else max(0, goal.offset - found.offset)
                bytes_ = "an unknown number of" if behind is None else behind
                told.append(f"node {node.number} is {bytes_} bytes behind")
            step.text = ", ".join(told)

    def _compares(self) -> None:
        with self.steps.step("verify") as step:
            depth = self.asked.depth(self.task.spec)
            if depth == "off":
                step.skip("off")
                return
            if self.source.is_cluster or self.target.is_cluster:
                step.text = f"it would compare the keys of all nodes ({depth})"
                return
            ours, theirs = keys_in_scope(self.source, self.target, self.task.databases)
            spec: VerifySpec = how(depth, self.task.spec.verify)
            part = "" if spec.sample == 100 else f", {spec.sample} % of them"
            step.text = f"it would compare {ours:,} keys of the source with {theirs:,} of the target ({depth}{part})"
