"""Build networks (torch modules from normalised images to logits): ours, timm's, torchvision's or the user's."""

from distill.models.build import build_model, check_model

__all__ = ["build_model", "check_model"]
