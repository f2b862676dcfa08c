"""Compute the key of an artifact: a hash of its config, known before anything runs.

A key depends on the fields that differ from their default, on the version of the stage, on the names of the
measures that the stage computes, and on the keys of its inputs. So a field that is added later changes no key.
Whoever changes a default must raise the version of the stage.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from typing import Any, get_args, get_origin
from typing import Literal as _Literal

from distill.config import Config, StageConfig
from distill.store.stages import STAGES, Stage, is_stage

# Configs are frozen, and all configs that contain a config share the object. So each config of a graph is hashed
# once, not once for every path that leads to it.
_KEYS: dict[int, tuple[weakref.KeyedRef[int, StageConfig], tuple[Stage, ...], str]] = {}
"""Keys that are known: id of a config → the config (weak), all stages, and its key."""


def key(config: StageConfig) -> str:
    """Hash a config with its inputs replaced by their keys; return the sha256 in hexadecimal."""
    stages, known = tuple(STAGES.values()), _KEYS.get(id(config))
    if known and known[0]() is config and known[1] == stages:
        return known[2]
    stage = STAGES[config.stage]
    own = {"version": stage.version, **({"measures": stage.measures} if stage.measures else {}), **_changed(config)}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, allow_nan=False).encode()).hexdigest()
    _KEYS[id(config)] = (weakref.KeyedRef(config, _forget, id(config)), stages, digest)
    return digest


def _forget(gone: weakref.KeyedRef[int, StageConfig]) -> None:
    known = _KEYS.get(gone.key)
    if known and known[0] is gone:  # its id may belong to another config by now
        del _KEYS[gone.key]


def _changed(config: Config) -> dict[str, Any]:
    """Return the config fields that enter the key: non-default ones, inputs, and the tag of the config's class.

    A class tag is the field that says which of several config classes a config is.
    """
    fields = type(config).model_fields
    return {
        name: _canonical(value)
        for name, value in config
        # An input counts even at its default: it is made anew when the version of its stage is raised.
        if value != fields[name].default or is_stage(value) or _is_tag(fields[name])
    }


def _is_tag(field: Any) -> bool:
    return get_origin(field.annotation) is _Literal and len(get_args(field.annotation)) == 1


def _canonical(value: Any) -> Any:
    if is_stage(value):
        return key(value)
    if isinstance(value, Config):
        return _changed(value)
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    return value
