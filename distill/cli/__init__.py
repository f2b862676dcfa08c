"""The command `distill`: words in, words out, no logic."""
