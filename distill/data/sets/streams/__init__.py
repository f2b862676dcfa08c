"""Decode images when a batch needs them, from files, tar shards and data sets of Hugging Face."""
