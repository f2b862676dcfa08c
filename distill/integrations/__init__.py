"""Show a logit cache in training loops of other frameworks: plain PyTorch, timm's style, Lightning.

Each file is one example that runs, such as `python -m distill.integrations.pytorch_loop CACHE`. They
are there to be copied from; nothing imports them. `frame` holds what all of them share.
"""
