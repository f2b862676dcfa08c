"""Build networks from normalised images to logits: ours, timm's, torchvision's or the user's.

A network is a plain torch module.
"""

from distill.models.build import build_model, check_model

__all__ = ["build_model", "check_model"]
