"""Knowledge distillation that measures what a teacher knows beyond its top-1 answer.

The pipeline, and the folder that holds each step: a **teacher** is trained (with or without label
smoothing), its logits go to a **cache** on disk, **students** learn from the cache, an **analysis**
measures them all, a **report** says which claims hold.
"""

__version__ = "0.1.0"
