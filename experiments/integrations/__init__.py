"""A logit cache in training loops that are not ours: plain PyTorch, timm's style, Lightning.

Each file is one example, run from the clone, such as `python -m experiments.integrations.pytorch_loop CACHE`. They
are there to be copied from; nothing imports them. `frame` holds what all of them share.
"""
