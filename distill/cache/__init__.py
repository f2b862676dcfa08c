"""The logit cache: written once per teacher, read by any student, and able to prove that it fits."""

from distill.cache.logit_cache import LogitCache

__all__ = ["LogitCache"]
