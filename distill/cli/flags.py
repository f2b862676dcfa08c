"""Make command-line flags from the configs, which are the only source of defaults, types and one-line help."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import tyro
from pydantic import BaseModel, ConfigDict, Field, create_model
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from distill.config import (
    CacheConfig,
    EnsembleConfig,
    LabelsConfig,
    LossConfig,
    Mean,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.runtime import Runtime, default_store

_registry = ConstructorRegistry()
_Input = TypeVar("_Input", TeacherConfig, CacheConfig)
_Flags = TypeVar("_Flags")


@_registry.primitive_rule
def _json_object(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type_origin is not dict:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_parse_json_object,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _parse_json_object(words: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(words[0])
    except (json.JSONDecodeError, RecursionError) as error:
        value = error
    if not isinstance(value, dict):
        raise UserError("kwargs", words[0], "a JSON object", """Write it as '{"name": value}'.""")
    return value


def parse_call(function: Callable[..., None], arguments: list[str], command: str) -> Callable[[], None]:
    """Return a function that calls `function` with the flags in `arguments`.

    Raises:
        UserError: a flag is unknown, missing or of the wrong type.
    """

    @functools.wraps(function)
    def bound(*positional: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(function, *positional, **named)

    return _parse_flags(bound, arguments, command)


def _parse_flags(what: Any, arguments: list[str], command: str, **options: Any) -> Any:
    """Parse flags for `what`, a class or a function, and return the object that it makes of them.

    Raises:
        UserError: a flag is unknown, missing or of the wrong type.
    """
    told = io.StringIO()
    for plugin in _named_plugins(arguments):
        trust.name(plugin)
    try:
        with _registry, contextlib.redirect_stderr(told):
            return tyro.cli(what, args=arguments, prog=f"distill {command}", **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro draws a box around its error; our errors are one line.
        words = re.sub(r"[─-╿]|For full helptext.*", " ", told.getvalue(), flags=re.DOTALL)
        words = re.sub(r"For further information.*|\[type=.*?\]", " ", words, flags=re.DOTALL)
        line = re.sub(r"\s+", " ", words).strip()
        line = re.sub(r"^.*?(error|options) (?=Error|Unrecognized|Missing)", "", line)
        way_out = f"{line.rstrip('.')}. See distill {command} --help."
        raise UserError("arguments", " ".join(arguments), f"the flags of distill {command}", way_out) from stop


def _named_plugins(arguments: list[str]) -> Iterator[str]:
    """Yield the values of flags that may name a plug-in, such as --model.name, --augment.program and --data."""
    for word, following in itertools.pairwise([*arguments, ""]):
        flag, equals, value = word.partition("=")
        if flag == "--data" or (flag.startswith("--") and flag.rpartition(".")[2] in ("name", "program")):
            yield value if equals else following


def parse_beside(kind: type[_Flags], arguments: list[str], command: str) -> tuple[_Flags, list[str]]:
    """Parse the flags of a class among other arguments; return the object of that class and the other arguments."""
    return _parse_flags(kind, arguments, command, return_unknown_args=True)


def parse_config(
    command: str, arguments: list[str], upstream: StageConfig | None = None
) -> tuple[StageConfig, Runtime]:
    """Return the config of `distill teacher`, `cache`, `student` or `sweep-smoothing`, and the runtime settings.

    An input is named by the path or key of its artifact. What the input fixes becomes the default of the flags.

    Args:
        command: command that has the flags.
        arguments: arguments of the command line.
        upstream: teacher of a cache, or cache of a student, that is not made yet; then no flag names an input.
    """
    arguments = [_plain(word) for word in arguments]
    store = ArtifactStore(Path(*_peek(arguments, "store")[:1] or [default_store()]))
    source = next(iter(_inputs(store, arguments, "smoothing-source", TeacherConfig)), None)
    if command == "teacher":
        # The source is validated only together with all flags: alone it would be refused.
        return _parse(TeacherConfig(), {"smoothing_source": _SOURCE}, arguments, {"smoothing_source": source})
    if command == SWEEP:
        return _parse_sweep(arguments, source)
    if command == "cache":
        teacher = upstream if isinstance(upstream, TeacherConfig) else None
        named = _CACHE_INPUTS | ({"teacher": (tuple[str, ...], ())} if teacher else {})
        return _parse(_cache_of(store, arguments, teacher), named, arguments)
    caches = [upstream] if isinstance(upstream, CacheConfig) else _inputs(store, arguments, "cache", CacheConfig)
    cache = caches[0] if caches else None
    default = (
        StudentConfig(cache=cache, data=cache.transfer_set) if cache else StudentConfig(loss=LossConfig(alpha=0))
    )
    help_text = "Path or key of the cache's artifact; None trains from labels alone."
    named = {"cache": (str | None, Field(None, description=help_text)), "smoothing_source": _SOURCE}
    return _parse(default, named, arguments, {"smoothing_source": source})


_SOURCE: Any = (
    str | None,
    Field(
        None,
        description="Path or key of a teacher whose held-out predictions say which classes are confused, or alike.",
    ),
)


def _parse(
    default: Any, named: dict[str, Any], arguments: list[str], found: dict[str, Any] | None = None
) -> tuple[Any, Runtime]:
    """Return the config and the runtime settings that flags give.

    Args:
        default: config with the defaults of the flags, and with the inputs that are not in `found`.
        named: flags that name an input by path or key.
        arguments: arguments of the command line.
        found: configs of the inputs that flags name.
    """
    kind = type(default)
    _, fields, machine = _given(default, named, arguments, default.stage)
    inputs = {name: getattr(default, name) for name in named if name in kind.model_fields} | (found or {})
    try:
        config = kind(**inputs, **fields)
    except UserError as error:
        cache = inputs.get("cache")
        if cache is None or error.field not in _FIXED_BY_CACHE:
            raise
        path = ArtifactStore(machine.store).path(cache)
        raise _with_command(error, cache, path, {_FIXED_BY_CACHE[error.field]: fields[error.field]}) from error
    return config, machine


def _given(
    default: Any, named: dict[str, Any], arguments: list[str], command: str, about: str | None = None
) -> tuple[BaseModel, dict[str, Any], Runtime]:
    """Parse flags, and return all their values, the values of the config's fields, and the runtime settings.

    Args:
        default: config with the defaults of all fields that are not in `named`.
        named: flags that have another form than the field of their name, or that are no field of the config.
        arguments: arguments of the command line.
        command: command that has the flags.
        about: heading of the help; None takes the docstring of the config's class.
    """
    kind = type(default)
    own: dict[str, Any] = {
        name: (field.annotation, Field(getattr(default, name), description=field.description))
        for name, field in kind.model_fields.items()
        if name not in named and name != "stage"
    }
    if isinstance(default, TeacherConfig):
        own["loss"] = _of_labels(default.loss, "smoothing" if "smoothings" in named else "")
    runtime: dict[str, Any] = {name: (field.annotation, field) for name, field in Runtime.model_fields.items()}
    # `protected_namespaces`: a field called model… is fine here; no pydantic method is shadowed.
    flags = create_model(
        kind.__name__.removesuffix("Config"),
        __config__=ConfigDict(protected_namespaces=()),
        __doc__=about or kind.__doc__,
        **{name: flag for name, flag in named.items() if flag is not None},
        **own,
        **runtime,
    )
    given: BaseModel = _parse_flags(flags, arguments, command)
    machine = Runtime(**{name: getattr(given, name) for name in runtime})
    fields = {name: getattr(given, name) for name in own}
    if isinstance(default, TeacherConfig):
        fields["loss"] = default.loss.replace(**dict(fields["loss"]))
    return given, fields, machine


def _of_labels(default: LossConfig, left_out: str) -> tuple[type[BaseModel], BaseModel]:
    """Make the flags of a loss without a soft term: its class, and an instance with the defaults.

    Args:
        default: loss with the defaults of the flags.
        left_out: name of a field that gets no flag; "" for none.
    """
    fields: dict[str, Any] = {
        name: (field.annotation, Field(getattr(default, name), description=field.description))
        for name, field in LossConfig.model_fields.items()
        if name in ("smoothing", "smoothing_convention", "labels") and name != left_out
    }
    flags = create_model("Loss", __doc__="What it is taught of its labels.", **fields)
    return flags, flags()


SWEEP = "sweep-smoothing"
"""Name of the command that makes a sweep; the other commands of `parse_config` are names of stages."""


def _parse_sweep(arguments: list[str], source: TeacherConfig | None) -> tuple[SweepConfig, Runtime]:
    """Return the sweep of these flags: the flags of `distill teacher`, but with several strengths of smoothing."""
    if smoothing := _peek(arguments, "loss.smoothing"):
        way_out = "Name all that are to be tried: --smoothings 0 0.1 0.2."
        raise UserError("smoothing", smoothing[0], "none in a sweep, which sets it", way_out)
    if per_class := _peek(arguments, "loss.labels.per-class"):
        way_out = "Drop --loss.labels.per-class."
        raise UserError("loss.labels.per_class", per_class, "none in a sweep, which smooths all alike", way_out)
    of_sweep = {
        name: (field.annotation, Field(field.default, description=field.description))
        for name, field in SweepConfig.model_fields.items()
        if name not in ("stage", "teacher")
    }
    named = {"smoothing_source": _SOURCE, **of_sweep}
    words = _peek(arguments, "smoothings")
    try:
        tried = [*map(float, words)] or SweepConfig.model_fields["smoothings"].default
    except ValueError:
        way_out = "Write --smoothings 0 0.1 0.2."
        raise UserError("smoothings", " ".join(words), "numbers from 0 to below 1", way_out) from None
    about = "Train one recipe with several strengths of label smoothing, and say which to take for what use."
    given, fields, machine = _given(TeacherConfig().with_loss(smoothing=max(tried)), named, arguments, SWEEP, about)
    chosen: dict[str, Any] = {name: getattr(given, name) for name in of_sweep}
    # A config without smoothing refuses flags that say where smoothing goes and when. So smoothing is set to 0, for
    # one key per recipe, only where no such flag is given.
    recipe = TeacherConfig(**fields, smoothing_source=source)
    labels = recipe.loss.labels.replace(confidence_penalty=0, on_mixed=False, per_class=())
    if labels == LabelsConfig():
        recipe = recipe.with_loss(smoothing=0)
    return SweepConfig(teacher=recipe, **chosen), machine


_FIXED_BY_CACHE = {"data": "transfer_set", "augment": "augment", "views": "views"}
"""Field that a student takes from its cache → name of this field in the cache's config."""


def _with_command(error: UserError, cache: CacheConfig, path: Path, changes: dict[str, Any]) -> UserError:
    """Return an error like `error`, with the command that makes the cache that the flags ask for."""
    from distill.cache.remake import remake

    field, value, expected, _ = error.args
    wanted = remake(cache, path, **changes)
    return UserError(field, value, expected, f"Drop the flags, or make a cache that fits: {wanted}")


_CACHE_INPUTS: dict[str, Any] = {
    "teacher": (
        tuple[str, ...],
        Field(description="Path or key of the teacher's artifact; several make an ensemble."),
    ),
    "mean": (
        Mean,
        Field("probabilities", description="What is averaged over the teachers of an ensemble."),
    ),
}


def _cache_of(store: ArtifactStore, arguments: list[str], teacher: TeacherConfig | None) -> CacheConfig:
    """Return the config of a cache of `teacher`, or of the teachers that flags name, with defaults elsewhere."""
    teachers = [teacher] if teacher else _inputs(store, arguments, "teacher", TeacherConfig)
    means = _peek(arguments, "mean")
    if not teachers:
        return CacheConfig()
    if len(teachers) == 1:
        if means:
            raise UserError("mean", means[0], "none with one teacher", "Give several: --teacher A B.")
        return CacheConfig(teacher=teachers[0], transfer_set=teachers[0].data)
    mean: Any = means[0] if means else "probabilities"
    ensemble = EnsembleConfig(members=tuple(teachers), mean=mean)
    return CacheConfig(teacher=ensemble, transfer_set=teachers[0].data)


def _inputs(store: ArtifactStore, arguments: list[str], name: str, kind: type[_Input]) -> list[_Input]:
    found: list[_Input] = []
    for named in _peek(arguments, name):
        if named == "None":
            continue
        artifact = store.resolve(named)
        if not isinstance(artifact.config, kind):
            raise UserError(
                name, named, f"the artifact of a {name}, this is a {artifact.config.stage}", "See `distill ls`."
            )
        if not artifact.is_current:
            way_out = "Make it again with the flags that `distill show` tells, or take one that `distill ls` lists."
            raise UserError(name, named, "an artifact of this version, and unchanged", way_out)
        found.append(artifact.config)
    return found


def _plain(word: str) -> str:
    """Return a flag in the one form that is looked for: with hyphens, and the short --smoothing written out."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    flag = flag.replace("_", "-")
    return f"{'--loss.smoothing' if flag == '--smoothing' else flag}{equals}{value}"


def _peek(arguments: list[str], name: str) -> list[str]:
    """Return the values of one flag, which is read before the others because their defaults depend on it.

    Raises:
        UserError: the flag is given twice.
    """
    # The parser would silently take one of two equal flags.
    if sum(word == f"--{name}" or word.startswith(f"--{name}=") for word in arguments) > 1:
        raise UserError(name, "given twice", f"one --{name}", f"Several values follow one flag: --{name} A B.")
    for position, word in enumerate(arguments):
        if word == f"--{name}":
            return list(itertools.takewhile(lambda value: not value.startswith("--"), arguments[position + 1 :]))
        if word.startswith(f"--{name}="):
            return [word.partition("=")[2]]
    return []
