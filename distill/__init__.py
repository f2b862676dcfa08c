"""Distil knowledge from teachers into students, and measure what a teacher knows beyond its top-1 answer.

The pipeline has five stages, which are modules of `distill.stages`. A **teacher** is trained, with or without label
smoothing. Its logits go to a **cache** on disk. **Students** learn from the cache. An **analysis** measures all
these networks. A **report** says which claims hold.
"""

__version__ = "0.1.0"
