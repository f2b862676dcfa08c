"""Code about the machine and its files: folders, ranks, progress, plug-ins, and the reading of others' files."""
