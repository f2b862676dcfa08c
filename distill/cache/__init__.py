"""Store a teacher's logits in a cache that any student can read and check against its own images."""

from distill.cache.logit_cache import LogitCache
from distill.cache.transfer_set import CachedDataset

__all__ = ["CachedDataset", "LogitCache"]
