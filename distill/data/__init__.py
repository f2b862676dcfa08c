"""Data sets, their views, and the loader that turns both into batches."""
