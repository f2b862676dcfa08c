"""Store a teacher's logits in a cache: written once, read by any student, and able to prove that it fits."""

from distill.cache.logit_cache import LogitCache
from distill.cache.transfer_set import CachedDataset

__all__ = ["CachedDataset", "LogitCache"]
