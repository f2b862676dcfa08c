"""Distil knowledge from teachers into students, and measure what a teacher knows beyond its top-1 answer.

The stages of the pipeline are modules of `distill.stages`. A **teacher** is trained, with or without label
smoothing. Its logits go to a **cache** on disk. **Students** learn from the cache. An **analysis** measures all
networks. A **report** says which claims hold.
"""

__version__ = "0.1.0"
