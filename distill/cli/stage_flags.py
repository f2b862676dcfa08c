"""Define the flags of the commands that run one stage, and make the config that these flags ask for.

An input is named by the path or key of its artifact. What the inputs fix becomes the default of all other flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from distill.cli.config_file import ConfigFile
from distill.cli.flag_names import flag
from distill.cli.flags import Flag, Mark, flags_of, make, nested, read
from distill.config import (
    RECIPES,
    AdoptedConfig,
    CacheConfig,
    Config,
    EnsembleConfig,
    LossConfig,
    Mean,
    RecipeName,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system.files import expanded
from distill.system.runtime import Runtime

_OF_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Ends of the names of files of weights: what ends so is no key."""
_RECIPES = (
    "Train as published. The settings are the defaults of other flags; with other epochs, steps of the rate move in"
    f" proportion; a student with a cache keeps the views of the cache. {'; '.join(map(str, RECIPES.values()))}."
)


class StageFlags(BaseModel):
    """Define the flags of a command that runs one stage: flags that name inputs, and the fields of its config."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    makes: ClassVar[type[StageConfig]]
    """Config whose fields are flags."""
    left_out: ClassVar[tuple[str, ...]] = ()
    """Dotted names of the fields of that config that get no flag."""

    config: str | None = None
    """A file (TOML, JSON) or an artifact whose settings are the defaults of all flags."""

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None, base: Any) -> Any:
        """Return the config from which the remaining flags take their defaults, with the named inputs filled in.

        Args:
            store: store of the inputs.
            upstream: config of an input that is not made yet, for where no flag names one.
            base: config of an artifact that gives the defaults; None takes those of this program.
        """
        raise NotImplementedError

    def finish(self, config: Any) -> StageConfig:
        """Return the config of the stage, given the config that the flags make."""
        return config


class Teacher(StageFlags):
    """Train a teacher, with or without label smoothing."""

    recipe: Annotated[RecipeName | None, Field(description=_RECIPES)] = None
    init: str | None = None
    """Begin with a network of the store, a file, or `pretrained`. Files are those of `distill adopt`; `pretrained`
    takes the weights that timm or torchvision publish for the network. The last layer is new where its classes are
    others; with --optim.head-lr 10 it learns ten times as fast as all others."""
    smoothing_source: str | None = None
    """A teacher whose held-out answers say which classes are alike."""

    makes: ClassVar = TeacherConfig
    left_out: ClassVar = (
        "loss.alpha",
        "loss.temperature",
        "loss.equivalent_smoothing",
        "loss.temperature_on",
        "loss.soft",
        "loss.kwargs",
    )

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None, base: Any) -> Any:
        """Return the default config of a teacher, including the network that `smoothing_source` names, if any."""
        return self._with_networks(base or TeacherConfig(), store, base)

    @property
    def weights(self) -> Path | Literal["pretrained"] | None:
        """Return the file of weights with which the training begins, or the word `pretrained`; None otherwise."""
        if self.init is None or self.init == "pretrained":
            return self.init
        path = expanded(Path(self.init))
        return path if path.is_file() or path.suffix in _OF_WEIGHTS else None

    def _with_networks(self, config: Any, store: ArtifactStore, base: Any) -> Any:
        """Return a config with the networks that flags name; what it begins with is its default, without a base."""
        named: dict[str, Any] = {}
        if self.smoothing_source is not None:
            kinds = TeacherConfig, AdoptedConfig
            named["smoothing_source"] = _input("smoothing_source", self.smoothing_source, store, *kinds)
        if self.init is not None and self.weights is None:
            first = _input("init", self.init, store, TeacherConfig, AdoptedConfig, StudentConfig)
            named["init"] = first
            if base is None:
                named["model"] = first.model.model_copy(update={"content": None})
                alone = getattr(config, "cache", None) is None
                named |= {"data": first.data.model_copy(update={"content": None})} if alone else {}
        # The copy is not validated: the source fits only the labels that other flags ask for.
        return config.model_copy(update=named)


class Sweep(Teacher):
    """Train one config with several label smoothings, and say which suits accuracy, calibration and teaching."""

    sweep: Annotated[SweepConfig, Mark.UNPREFIXED] = SweepConfig()

    left_out: ClassVar = (*Teacher.left_out, "loss.smoothing", "loss.labels.per_class")

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None, base: Any) -> TeacherConfig:
        """Return a teacher config with smoothing above 0: flags that say how to smooth are refused without any."""
        recipe = base or self.sweep.teacher
        loss = recipe.loss.model_copy(update={"smoothing": max(self.sweep.smoothings)})
        return self._with_networks(recipe.model_copy(update={"loss": loss}), store, base)

    def finish(self, config: TeacherConfig) -> SweepConfig:
        """Return the config of a sweep, which trains `config` with each of several label smoothings."""
        # Where no flag asks for smoothing it is set back to 0, so that a recipe has one key.
        plain = config.loss.labels.is_plain
        return self.sweep.replace(teacher=config.with_loss(smoothing=0) if plain else config)


class Cache(StageFlags):
    """Write a teacher's logits on a transfer set."""

    teacher: tuple[str, ...] = ()
    """Path or key of the teacher's artifact, which must be named; several make an ensemble."""
    mean: Mean = "probabilities"
    """What is averaged over the teachers of an ensemble."""

    makes: ClassVar = CacheConfig
    left_out: ClassVar = ("transfer_set.balanced",)

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None, base: Any) -> CacheConfig:
        """Return the config of a cache of the teachers that flags name, or else of the teacher in `upstream`."""
        teachers = [_input("teacher", name, store, TeacherConfig, AdoptedConfig) for name in self.teacher]
        if not teachers and isinstance(upstream, TeacherConfig):
            teachers = [upstream]
        if not teachers and base:
            return base
        if not teachers:
            raise UserError("teacher", None, "the path or key of a teacher", "`distill ls teacher` lists them.")
        if len(teachers) == 1 and self.mean != "probabilities":
            raise UserError("mean", self.mean, "none with one teacher", "Name several: --teacher A B.")
        several = EnsembleConfig(members=tuple(teachers), mean=self.mean) if len(teachers) > 1 else None
        fresh = base or CacheConfig(transfer_set=teachers[0].data)
        return fresh.model_copy(update={"teacher": several or teachers[0]})


class Student(Teacher):
    """Train a student, from a cache or from labels."""

    cache: str | None = None
    """Path or key of the cache's artifact; None trains from labels alone."""

    makes: ClassVar = StudentConfig
    left_out: ClassVar = ()

    def defaults(self, store: ArtifactStore, upstream: StageConfig | None, base: Any) -> Any:
        """Return the config of a student of the named cache, else of the cache `upstream`, else without a cache."""
        cache = upstream if isinstance(upstream, CacheConfig) else None
        if self.cache is not None:
            cache = _input("cache", self.cache, store, CacheConfig)
        alone = base or StudentConfig(loss=LossConfig(alpha=0))
        if cache is None:
            return self._with_networks(alone, store, base)
        # Without a cache alpha had to be 0.
        loss = alone.loss if alone.cache else alone.loss.model_copy(update={"alpha": 1.0})
        data = cache.transfer_set.model_copy(update={"balanced": alone.data.balanced})
        taught = alone.model_copy(update={"cache": cache, "data": data, "loss": loss})
        return self._with_networks(taught, store, base)


STAGE_FLAGS = {"teacher": Teacher, "cache": Cache, "student": Student, "sweep-smoothing": Sweep}
"""Name of a command that runs one stage → its flags."""


class _Nothing(BaseModel):
    """Have no further flags."""


def stage_flags(command: str, beside: type[BaseModel] = _Nothing) -> list[Flag]:
    """List the flags of a command that runs one stage: inputs, the fields of its config, the machine.

    Args:
        command: command that runs one stage.
        beside: a model with further flags.
    """
    kind = STAGE_FLAGS[command]
    of_config = (each for each in flags_of(kind.makes, keys=("config",)) if each.field not in kind.left_out)
    others = (("inputs", kind), ("runtime", Runtime), ("beside", beside))
    return [*of_config, *(each for key, what in others for each in flags_of(what, keys=(key,)))]


def parse_config(command: str, arguments: list[str]) -> tuple[StageConfig, Runtime]:
    """Return the config that the flags of a command ask for, and the runtime settings."""
    config, runtime, _ = parse_words(command, arguments)
    return config, runtime


def parse_words(
    command: str,
    arguments: list[str],
    upstream: StageConfig | None = None,
    beside: type[BaseModel] = _Nothing,
    dry: bool = False,
) -> tuple[StageConfig, Runtime, Any]:
    """Return the config that the flags of a command ask for, the runtime settings, and further flags.

    Args:
        command: command that runs one stage.
        arguments: arguments of the command line.
        upstream: teacher of a cache, or cache of a student, that is not made yet.
        beside: model of the further flags.
        dry: adopt no weights that a training begins with.
    """
    kind, flags = STAGE_FLAGS[command], stage_flags(command, beside)
    words = [word.partition("=")[0].replace("_", "-") for word in arguments]
    for each in flags:
        if each.keys[0] == "inputs" and words.count(flag(each.field)) > 1:
            # Of two the parser would silently take the last.
            way_out = f"Several values follow one flag: {flag(each.field)} A B."
            raise UserError(each.field, "given twice", "it once", way_out)
    given = read(arguments, flags, command)
    runtime = make(Runtime, nested(given, flags)["runtime"], flags, ("runtime",))
    store = ArtifactStore(runtime.store)
    name = next((value for each, value in given.items() if each.keys == ("inputs", "config")), None)
    file = ConfigFile.read(name, kind.makes, flags, store) if name else ConfigFile()
    asked = nested(file.values | given, flags)
    with file.named_in_errors({each.field for each in given}):
        inputs = make(kind, asked["inputs"], flags, ("inputs",))
        defaults = inputs.defaults(store, upstream, file.config)
        if isinstance(inputs, Teacher) and inputs.recipe:
            epochs = asked["config"]["schedule"].get("epochs")
            defaults = RECIPES[inputs.recipe].applied_to(defaults, epochs)
        try:
            config = type(defaults)(**_merged(defaults, asked["config"]))
            if isinstance(inputs, Teacher) and (weights := inputs.weights):
                config = _begun(config, weights, store, runtime, dry)
            config = inputs.finish(config)
        except UserError as error:
            cache = getattr(defaults, "cache", None)
            if cache is None or error.field not in _FIXED_BY_CACHE:
                raise
            raise _with_command(error, cache, store) from error
    return config, runtime, make(beside, nested(given, flags).get("beside", {}), flags, ("beside",))


def _begun(config: Any, weights: Path | str, store: ArtifactStore, runtime: Runtime, dry: bool) -> Any:
    from distill.pipeline.beginning import begin_with_weights  # it imports torch

    return begin_with_weights(config, weights if isinstance(weights, Path) else None, store, runtime, dry)


def _merged(default: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config with those that are given; parts are dicts, validated with the whole."""
    fields = dict(default)
    for name, value in given.items():
        part = fields[name]
        fields[name] = _merged(part, value) if isinstance(part, Config) else value
    if "content" in fields and any(
        given.get(name, fields.get(name)) != getattr(default, name, None) for name in ("name", "program")
    ):
        fields["content"] = None  # the digest was that of what the default names
    return fields


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


def _input(flag: str, name: str, store: ArtifactStore, *kinds: type[Any]) -> Any:
    """Return the config of the artifact that a flag names; refuse one of another stage, or an outdated one."""
    artifact = store.resolve(name, flag)
    if not isinstance(artifact.config, kinds):
        first, *others = (kind.model_fields["stage"].default for kind in kinds)
        named = f"{first}, trained here or adopted" if others else first
        named = named.replace(",", " or a student,") if "student" in others else named
        expected = f"the artifact of a {named}, this is a {artifact.config.stage}"
        raise UserError(flag, name, expected, "See `distill ls`.")
    if not artifact.is_current:
        way_out = "Make it again with the flags that `distill show` tells, or take one that `distill ls` lists."
        raise UserError(flag, name, "an artifact of this version, and unchanged", way_out)
    store.refuse_other(artifact, flag)
    if artifact.path.name != (own := store.path(artifact.config).name):
        raise UserError(flag, name, f"the folder {own}, it is not found under another name", "Rename it.")
    return artifact.config
