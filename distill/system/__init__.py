"""The machine and its files: folders, ranks, progress, plug-ins, and what of others is read."""
