"""Define the flags of the commands that run one stage, and make the config that these flags ask for.

An input is named by the path or key of its artifact. What the inputs fix becomes the default of all other flags, so
the flags that name inputs are parsed first, and then all flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from distill.cli.flag_names import UNPREFIXED, fields_of, flag
from distill.cli.flags import parse
from distill.config import (
    CacheConfig,
    EnsembleConfig,
    LossConfig,
    Mean,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime

_Input = TypeVar("_Input", TeacherConfig, CacheConfig)


class StageFlags:
    """Define the flags of a command that runs one stage: flags that name inputs, and the fields of its config."""

    config: ClassVar[type[StageConfig]]
    """Config whose fields are flags."""
    left_out: ClassVar[tuple[str, ...]] = ()
    """Dotted names of the fields of that config that get no flag."""

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None) -> Any:
        """Return the config from which the remaining flags take their defaults, with the named inputs filled in.

        Args:
            store: store of the inputs.
            upstream: config of an input that is not made yet, for where no flag names one.
        """
        raise NotImplementedError

    def finish(self, config: Any) -> StageConfig:
        """Return the config of the stage, given the config that the flags make."""
        return config


@dataclass(frozen=True)
class Teacher(StageFlags):
    """Train a teacher, with or without label smoothing."""

    smoothing_source: str | None = None
    """Path or key of a teacher whose held-out predictions say which classes are confused, or alike."""

    config = TeacherConfig
    left_out = ("loss.alpha", "loss.temperature", "loss.temperature_on", "loss.soft", "loss.kwargs")

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None) -> Any:
        """Return the default config of a teacher, including the network that `smoothing_source` names, if any."""
        return self._with_source(TeacherConfig(), store)

    def _with_source(self, config: Any, store: ArtifactStore) -> Any:
        name = self.smoothing_source
        source = _input("smoothing_source", name, TeacherConfig, store) if name is not None else None
        # The copy is not validated: the source fits only the labels that other flags ask for.
        return config.model_copy(update={"smoothing_source": source})


@dataclass(frozen=True)
class Sweep(Teacher):
    """Train one config with several label smoothings, and say which suits accuracy, calibration and teaching."""

    sweep: Annotated[SweepConfig, UNPREFIXED] = field(default_factory=SweepConfig)

    left_out = (*Teacher.left_out, "loss.smoothing", "loss.labels.per_class")

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None) -> TeacherConfig:
        """Return a teacher config with smoothing above 0: flags that say how to smooth are refused without any."""
        return self._with_source(TeacherConfig().with_loss(smoothing=max(self.sweep.smoothings)), store)

    def finish(self, config: TeacherConfig) -> SweepConfig:
        """Return the config of a sweep, which trains `config` with each of several label smoothings."""
        # Where no flag asks for smoothing it is set back to 0, so that a recipe has one key.
        plain = config.loss.labels.is_plain
        return self.sweep.replace(teacher=config.with_loss(smoothing=0) if plain else config)


@dataclass(frozen=True)
class Cache(StageFlags):
    """Write a teacher's logits on a transfer set."""

    teacher: tuple[str, ...] = ()
    """Path or key of the teacher's artifact, which must be named; several make an ensemble."""
    mean: Mean = "probabilities"
    """What is averaged over the teachers of an ensemble."""

    config = CacheConfig
    left_out = ("transfer_set.balanced", "data.balanced")  # by its place here, and by that of its class

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None) -> CacheConfig:
        """Return the config of a cache of the teachers that flags name, or else of the teacher in `upstream`."""
        teachers = [_input("teacher", name, TeacherConfig, store) for name in self.teacher]
        if not teachers and isinstance(upstream, TeacherConfig):
            teachers = [upstream]
        if not teachers:
            raise UserError("teacher", None, "the path or key of a teacher", "`distill ls teacher` lists them.")
        if len(teachers) == 1 and self.mean != "probabilities":
            raise UserError("mean", self.mean, "none with one teacher", "Name several: --teacher A B.")
        several = EnsembleConfig(members=tuple(teachers), mean=self.mean) if len(teachers) > 1 else None
        return CacheConfig(teacher=several or teachers[0], transfer_set=teachers[0].data)


@dataclass(frozen=True)
class Student(Teacher):
    """Train a student, from a cache or from labels."""

    cache: str | None = None
    """Path or key of the cache's artifact; None trains from labels alone."""

    config = StudentConfig
    left_out = ()

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None) -> Any:
        """Return the config of a student of the named cache, else of the cache `upstream`, else without a cache."""
        cache = upstream if isinstance(upstream, CacheConfig) else None
        if self.cache is not None:
            cache = _input("cache", self.cache, CacheConfig, store)
        if cache is None:
            return self._with_source(StudentConfig(loss=LossConfig(alpha=0)), store)
        return self._with_source(StudentConfig(cache=cache, data=cache.transfer_set), store)


STAGE_FLAGS = {"teacher": Teacher, "cache": Cache, "student": Student, "sweep-smoothing": Sweep}
"""Name of a command that runs one stage → its flags."""


def parse_config(
    command: str, arguments: list[str], upstream: StageConfig | None = None
) -> tuple[StageConfig, Runtime]:
    """Return the config that the flags of a command ask for, and the runtime settings.

    Args:
        command: command that runs one stage.
        arguments: arguments of the command line.
        upstream: teacher of a cache, or cache of a student, that is not made yet.
    """
    kind = STAGE_FLAGS[command]
    for name in fields_of(kind):
        if sum(word.partition("=")[0].replace("_", "-") == flag(name) for word in arguments) > 1:
            # The parser would silently take one of the two.
            raise UserError(name, "given twice", "it once", f"Several values follow one flag: {flag(name)} A B.")
    parts: list[Any] = [("inputs", Annotated[kind, UNPREFIXED]), ("runtime", Annotated[Runtime, UNPREFIXED])]
    plain = [word for word in arguments if word not in ("-h", "--help")]
    first, _ = parse(make_dataclass("Inputs", parts), plain, command, return_unknown_args=True)
    store = ArtifactStore(first.runtime.store)
    # The help tells the defaults with the inputs that are named, or of a default teacher.
    defaults = first.inputs.defaults(store, TeacherConfig() if plain != arguments else upstream)
    parts.insert(1, ("config", Annotated[kind.config, UNPREFIXED], field(default=defaults)))
    flags = make_dataclass("Flags", parts, kw_only=True, namespace={"__doc__": kind.__doc__})
    try:
        given = parse(flags, arguments, command, kind.left_out)
    except UserError as error:
        cache = getattr(defaults, "cache", None)
        if cache is None or error.field not in _FIXED_BY_CACHE:
            raise
        raise _with_command(error, cache, store) from error
    return given.inputs.finish(given.config), given.runtime


_FIXED_BY_CACHE = {"data": "transfer_set", "augment": "augment", "views": "views"}
"""Field that a student takes from its cache → name of this field in the cache's config."""


def _with_command(error: UserError, cache: CacheConfig, store: ArtifactStore) -> UserError:
    """Return an error like the given one, with the command that makes the cache that the flags ask for."""
    from distill.cache.remake import remake

    changes: dict[str, Any] = {_FIXED_BY_CACHE[error.field]: error.value}
    command = remake(cache, store.path(cache), **changes)
    unseen = error.field == "augment" and any(teacher.augment != error.value for teacher in cache.teachers)
    trained = ". Its teacher was trained without these views, and may be refused for it" if unseen else ""
    return UserError(
        error.field, error.value, error.expected, f"Drop it, or make a cache that fits: {command}{trained}"
    )


def _input(flag: str, name: str, kind: type[_Input], store: ArtifactStore) -> _Input:
    """Return the config of the artifact that a flag names; refuse one of another stage, or an outdated one."""
    artifact = store.resolve(name, flag)
    if not isinstance(artifact.config, kind):
        expected = f"the artifact of a {kind.model_fields['stage'].default}, this is a {artifact.config.stage}"
        raise UserError(flag, name, expected, "See `distill ls`.")
    if not artifact.is_current:
        way_out = "Make it again with the flags that `distill show` tells, or take one that `distill ls` lists."
        raise UserError(flag, name, "an artifact of this version, and unchanged", way_out)
    store.refuse_other(artifact, flag)
    if artifact.path.name != (own := store.path(artifact.config).name):
        raise UserError(flag, name, f"the folder {own}, it is not found under another name", "Rename it.")
    return artifact.config
