"""Define configs that name files or code by a path or a reference, and handle the digests of what they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from distill.config.base import Config

_C = TypeVar("_C", bound=Config)


class NamesContent(Config):
    """Define what configs share that may name files or code: the digest of what they name, which enters the key.

    `distill.pipeline.identity` fills the digest in before a key is taken; a user does not set it.
    """

    content: str | None = None
    """Digest of the files or the code that this config names; None if there are none or they are not here."""

    @property
    def named(self) -> str:
        """Return the name of files or code that can change while this config does not; "" if there are none."""
        return self.plugin or ""

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with other values; a copy that names something else has no digest yet."""
        copy = super().replace(**changes)
        is_of_other = copy.named != self.named and "content" not in changes
        return copy.replace(content=None) if is_of_other and copy.content else copy


def parts(config: Config) -> Iterator[NamesContent]:
    """Yield each part of a config, and of the configs inside it, that names files or code."""
    if isinstance(config, NamesContent) and config.named:
        yield config
    for _, value in config:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Config):
                yield from parts(item)


def with_contents(config: _C, content: Callable[[NamesContent], str | None], done: dict[int, Any]) -> _C:
    """Return a copy of a config with the digest of each folder and plug-in that it names, by calling `content`.

    Args:
        config: config of a stage, with its inputs.
        content: function of a part that returns its digest.
        done: memory of the configs that were handled, by id, so that a config in many places is handled once and
            stays one object; start with an empty one, and use it again only with the same `content`.
    """
    if id(config) in done:
        return done[id(config)][1]
    changes: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Config):
            new = with_contents(value, content, done)
        elif isinstance(value, tuple) and any(isinstance(item, Config) for item in value):
            items = tuple(with_contents(item, content, done) for item in value)
            new = value if all(map(lambda a, b: a is b, items, value)) else items
        else:
            continue
        if new is not value:
            changes[name] = new
    if isinstance(config, NamesContent) and config.named and (digest := content(config)) != config.content:
        changes["content"] = digest
    copy = config.replace(**changes) if changes else config
    done[id(config)] = config, copy  # the config is kept, so that its id belongs to nothing else
    return copy


def without_contents(config: _C, done: dict[int, Any] | None = None) -> _C:
    """Return a copy of a config without digests: the recipe, whatever files and code it is applied to."""
    return with_contents(config, lambda part: None, {} if done is None else done)
