"""Handle the machine and its files: folders, ranks, progress, plug-ins, and files that others may have written."""
