"""Load data sets: built-in ones, image folders and archives, and those of plug-ins."""
