"""Experiments: one file is one figure, table or question, and is found by its file name."""
