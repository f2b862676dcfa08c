"""The folder of all artifacts: what they are called, how they are published, found, locked and cleared away."""

from distill.store.store import ArtifactStore

__all__ = ["ArtifactStore"]
