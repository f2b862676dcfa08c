"""Look up the inputs of a stage: the artifacts that its config names."""

from __future__ import annotations

from distill.config import StageConfig
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.stages import inputs, title
from distill.store.store import ArtifactStore

ArtifactOrReason = Artifact | str
"""Either an artifact, or the reason why its training diverged."""


class Inputs:
    """Look up the artifacts that a stage needs, by their configs."""

    def __init__(self, config: StageConfig, store: ArtifactStore):
        self._config, self._store = config, store

    def artifact(self, config: StageConfig) -> Artifact:
        """Find an input of the stage.

        Raises:
            UserError: the artifact is not in the store.
        """
        artifact = self._store.find(config)
        if artifact is None:  # inputs are made first, so somebody has deleted it
            expected = "what was there when this began; it was deleted since"
            raise UserError("input", title(config), expected, "Run the same command again.")
        return artifact

    def optional(self, config: StageConfig | None) -> Artifact | None:
        """Find an input of the stage; return None if its config is None."""
        return self.artifact(config) if config is not None else None

    def all(self) -> dict[str, ArtifactOrReason]:
        """Map the key of each input to its artifact, or to the reason why its training diverged."""
        return {key(config): artifact_or_reason(config, self._store) for config in inputs(self._config)}

    def seconds(self) -> float:
        """Add up the seconds in which all direct and indirect inputs of this stage were made, if they exist."""
        waiting = inputs(self._config)
        seconds: dict[str, float] = {}
        while waiting:
            upstream = waiting.pop()
            if (name := key(upstream)) not in seconds:
                artifact = self._store.find(upstream)
                seconds[name] = artifact.record.provenance.get("seconds", 0.0) if artifact else 0.0
                waiting += inputs(upstream)
        return sum(seconds.values())


def artifact_or_reason(config: StageConfig, store: ArtifactStore) -> ArtifactOrReason:
    """Find the artifact of a config, or the reason why it does not exist although everything was run."""
    artifact = store.find(config)
    return artifact if artifact is not None else store.diverged(config) or "what it learns from diverged"
