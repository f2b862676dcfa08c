"""Export a trained network to a folder that other programs use, and load it from there."""

from distill.audit.export.loading import load_exported
from distill.audit.export.writing import export

__all__ = ["export", "load_exported"]
