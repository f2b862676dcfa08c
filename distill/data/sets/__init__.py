"""Load data sets: built-in sets, image folders, archives, and sets that plug-ins return."""
