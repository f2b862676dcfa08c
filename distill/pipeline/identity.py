"""Fill the digests of files and code into configs before their keys are taken, and say what has changed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from distill.config import Config, DataConfig, StageConfig
from distill.config.contents import NamesContent, parts, with_contents, without_contents
from distill.data.sets.content import data_content, folder_path
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import FOLDERS, inputs
from distill.store.store import ArtifactStore
from distill.system import ranks
from distill.system.plugins import plugin_content
from distill.system.progress import write_line
from distill.system.runtime import Runtime
from distill.system.source import is_here

_Stage = TypeVar("_Stage", bound=StageConfig)
_Config = TypeVar("_Config", bound=Config)
_ABSENT = "it is not here"


class Contents:
    """Compute the digests that files and code have now, each once.

    Args:
        runtime: data root, and whether bars are shown.
        read: whether to read images that are not known yet; else their digest counts as not known.
    """

    def __init__(self, runtime: Runtime, read: bool = True):
        self.unknown: dict[str, str] = {}
        """Name of files or code whose digest is not known → the reason."""
        self._runtime, self._read = runtime, read
        self._digests: dict[str, str | None] = {}

    def of(self, part: NamesContent) -> str | None:
        """Return the present digest of the files or code that `part` names; None for installed code, and where the
        digest is not known.
        """
        name = part.named
        if name not in self._digests:
            try:
                self._digests[name] = self._digest(part, name)
            except UserError:
                self._digests[name], self.unknown[name] = None, "you do not trust it"
        return self._digests[name]

    def _digest(self, part: NamesContent, name: str) -> str | None:
        if not (isinstance(part, DataConfig) and part.folder):
            digest = plugin_content(name, "plug-in")
            if digest is None and not is_here(name.partition(":")[0]):
                self.unknown[name] = _ABSENT
            return digest
        root, progress = self._runtime.data_root, self._runtime.progress
        digest = data_content(part, root, read=self._read, progress=progress)
        if digest is None:
            self.unknown[name] = "its files were not read yet" if folder_path(part).exists() else _ABSENT
        return digest


def identify(config: _Config, runtime: Runtime) -> _Config:
    """Return a config with the digests of the files and the code that it names, as far as they are known."""
    contents = Contents(runtime)
    return with_contents(config, lambda part: part.content or contents.of(part), {})


def identify_all(
    configs: Sequence[_Stage], store: ArtifactStore, runtime: Runtime, read: bool = True
) -> list[_Stage]:
    """Return configs of stages with the digests of the files and the code that they and their inputs name.

    What is not here is not checked: a config then takes the digests of the artifact of the same recipe that is
    nearest to it, so that this artifact is found. A line on stderr says so. Another line says which files or code
    differ from those of the last artifact of a recipe, which is then made anew.

    Args:
        configs: configs of the wanted artifacts.
        store: store that is searched for artifacts of the same recipe.
        runtime: data root, and whether bars are shown.
        read: whether to read images that are not known yet; else they are not checked.
    """

    def on_first() -> list[_Stage]:
        contents, named, done = Contents(runtime, read), list[NamesContent](), dict[int, Any]()

        def content(part: NamesContent) -> str | None:
            named.append(part)
            return part.content or contents.of(part)

        known = [with_contents(config, content, done) for config in configs]
        if not named:
            return known
        recipes = _Recipes(store, contents)
        settled = [recipes.settled(config) for config in known]
        for given, config in zip(configs, settled, strict=True):
            recipes.tell_changes(given, config)
        return settled

    return ranks.on_first(on_first)


class _Recipes:
    """Find the artifacts of a store by their recipe: their config without digests of files and code."""

    def __init__(self, store: ArtifactStore, contents: Contents):
        self._store, self._contents = store, contents
        self._erased: dict[int, Any] = {}
        self._opened: dict[Path, tuple[str, Artifact] | None] = {}
        self._told: set[str] = set()

    def settled(self, config: _Stage) -> _Stage:
        """Fill in a config's unknown digests from the newest artifact that was made with the same settings or, if
        there is none, from the newest such artifact of an input.
        """
        unknown = {part.named for part in parts(config) if not part.content} & self._contents.unknown.keys()
        for wanted in _upstream(config) if unknown else ():
            fitting = [each for each in self._alike(wanted) if self._fits(each, wanted, unknown)]
            if not fitting:
                continue
            taken = fitting[0]
            digests = {part.named: part.content for part in parts(taken.config) if part.content}
            several = f", the newest of {len(fitting)}" if len(fitting) > 1 else ""
            for name in sorted(unknown & digests.keys()):
                reason = self._contents.unknown[name]
                self._tell(name, f"is not checked, since {reason}: {self._place(taken)} is taken{several}")
            if wanted is config:
                return taken.config  # pyright: ignore[reportReturnType]  (of the same stage)
            # What is still unknown may be known to another artifact.
            return self.settled(_joined(config, digests))
        return config

    def _fits(self, artifact: Artifact, wanted: StageConfig, unknown: set[str]) -> bool:
        """Tell whether an artifact agrees with all digests that are known, and supplies one that is unknown."""

        def known(part: NamesContent) -> str | None:
            return None if part.named in unknown else part.content

        tells = {part.named for part in parts(artifact.config) if part.content} & unknown
        return bool(tells) and key(with_contents(artifact.config, known, {})) == key(wanted)

    def tell_changes(self, given: StageConfig, config: StageConfig) -> None:
        """Print which files and code have changed: since the artifact that is reused was made or, if a new one is
        needed, since its predecessor.

        Args:
            given: config as the user, or a record, gave it.
            config: the same config with all digests.
        """
        with suppress(UserError):  # a damaged record is told by those who need it
            if (hit := self._store.find(config)) is not None:
                for part in parts(given):
                    if part.content and self._contents.of(part) not in (None, part.content):
                        self._tell(part.named, f"has other content than {self._place(hit)}, which is taken")
                return
        for wanted in _upstream(config):
            with suppress(UserError):
                if self._store.find(wanted) is None and (before := next(iter(self._alike(wanted)), None)):
                    then = {part.named: part.content for part in parts(before.config)}
                    for part in parts(wanted):
                        if part.content and then.get(part.named) != part.content:
                            has = "has other content than" if then.get(part.named) else "has a digest, but not in"
                            self._tell(part.named, f"{has} the artifact {self._place(before)}: it is made anew")

    def _tell(self, name: str, text: str) -> None:
        if name not in self._told:
            self._told.add(name)
            write_line(f"{name} {text}")

    def _place(self, artifact: Artifact) -> str:
        return f"{artifact.path.parent.name}/{artifact.path.name}"

    def _alike(self, config: StageConfig) -> list[Artifact]:
        """List the artifacts whose config is equal apart from digests of files and code, the newest first."""
        path = self._store.path(config)
        recipe = key(without_contents(config, self._erased))
        opened = filter(None, map(self._open, self._paths.get((path.parent.name, path.name[:-8]), ())))
        alike = [artifact for other, artifact in opened if other == recipe]
        return sorted(alike, key=lambda each: (each.path / RECORD).stat().st_mtime_ns, reverse=True)

    def _open(self, path: Path) -> tuple[str, Artifact] | None:
        if path not in self._opened:
            self._opened[path] = None
            with suppress(UserError):
                artifact = self._store.read(path)
                if artifact.is_current:
                    self._opened[path] = key(without_contents(artifact.config)), artifact
        return self._opened[path]

    @cached_property
    def _paths(self) -> dict[tuple[str, str], list[Path]]:
        """Map a stage's folder and an artifact's name without its key to the paths of all such artifacts."""
        paths: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for name_of_folder in FOLDERS:
            folder = self._store.root / name_of_folder
            for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208 - quick for 100,000
                paths[name_of_folder, name[:-8]].append(folder / name)
        return paths


def _joined(config: _Config, digests: Mapping[str, str | None]) -> _Config:
    return with_contents(config, lambda part: part.content or digests.get(part.named), {})


def _upstream(config: StageConfig) -> Iterator[StageConfig]:
    """Yield a config, its inputs, their inputs and so on, except configs that name neither files nor code."""
    waiting, seen = [config], set[str]()
    for each in waiting:  # it grows
        if key(each) not in seen and next(parts(each), None):
            seen.add(key(each))
            yield each
            waiting += inputs(each)
