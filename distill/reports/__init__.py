"""Make the pages and tables of what experiments measured."""
