"""Order trials from a process of `forked.py`, and say what is wrong with what they leave."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distill
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from tests.faults.forked import Ended, Order
from tests.faults.same_bits import differences


class Nursery:
    """A process that has imported all, and a store in which everything was made undisturbed."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], log: Path):
        self.folder, self._process, self._log = folder, process, log
        self.whole = folder / "undisturbed"
        self._measured: dict[str, Ended] = {}
        self._trials = 0
        assert self._answer() == "ready\n", log.read_text()

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Nursery]:
        """Start the process; stores lie in the folder."""
        code = Path(__file__).with_name("forked.py")
        here = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(distill.__file__).parents[1])}
        pipe, log = subprocess.PIPE, folder / "forked.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                [sys.executable, code],
                stdin=pipe,
                stdout=pipe,
                stderr=errors,
                text=True,
                env=os.environ | here,
            ) as process,
        ):
            yield cls(folder, process, log)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _order(self, stage: str, store: Path, **disturbance: float) -> Ended:
        assert self._process.stdin is not None
        order = Order(stage, str(store))._replace(**disturbance)
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert answer, self._log.read_text()
        return Ended(*json.loads(answer))

    def undisturbed(self, stage: str) -> Ended:
        """Measure once how long a stage takes alone, and how often it changes the store."""
        if stage not in self._measured:
            for config in (*(["analysis"] if stage == "report" else []), stage):
                made = self._order(config, self.whole)
                assert made.code == 0, made.said
            # Once more, by itself: the first made upstream too.
            store = self._store_for(stage)
            self._measured[stage] = self._order(stage, store)
            assert self._wrong(stage, store, self._measured[stage]) == []
            shutil.rmtree(store)
        return self._measured[stage]

    def disturb(self, stage: str, **disturbance: float) -> tuple[Ended, list[str]]:
        """Disturb the process of a stage, then run it again.

        Args:
            stage: of which `undisturbed` was called.
            disturbance: fields of `Order`.

        Returns:
            How the disturbed process ended, and what is wrong with what the rerun leaves.
        """
        store = self._store_for(stage)
        ended = self._order(stage, store, **disturbance)
        wrong = self._wrong(stage, store, self._order(stage, store))
        if not wrong:
            shutil.rmtree(store)
        return ended, wrong

    def _store_for(self, stage: str) -> Path:
        """Make a fresh store that has the inputs of a stage."""
        self._trials += 1
        store = self.folder / f"trial{self._trials}"
        before = itertools.takewhile(lambda name: name != stage, STAGES)
        for folder in dict.fromkeys(STAGES[name].folder for name in before):
            if (self.whole / folder).exists():
                shutil.copytree(self.whole / folder, store / folder)
        return store

    def _wrong(self, stage: str, store: Path, again: Ended) -> list[str]:
        if again.code != 0:
            return [f"{store.name}: the rerun ended with {again.code}: {again.said}"]
        folder = STAGES[stage].folder
        wanted, made = ({path.name: path for path in (root / folder).glob("*/")} for root in (self.whole, store))
        if not made or not made.keys() <= wanted.keys():
            return [f"{store.name}: made {sorted(made)}"]
        wrong = [f"{name}/{file}" for name, path in made.items() for file in differences(wanted[name], path)]
        wrong += [f"{name}: {problem}" for name, path in made.items() for problem in _problems(store, path)]
        left = [path for path in (store / "drafts").glob("*") if path.suffix != ".lock"]
        left += store.rglob("*.partial")
        return [f"{store.name}: {each}" for each in wrong + [f"left: {path}" for path in left]]


def _problems(store: Path, path: Path) -> list[str]:
    return ArtifactStore(store).read(path).problems()
