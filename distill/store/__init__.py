"""Store artifacts: name, publish, find, lock and delete them."""

from distill.store.store import ArtifactStore

__all__ = ["ArtifactStore"]
