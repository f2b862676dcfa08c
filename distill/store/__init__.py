"""The store of artifacts: it names, publishes, finds, locks and deletes them."""

from distill.store.store import ArtifactStore

__all__ = ["ArtifactStore"]
