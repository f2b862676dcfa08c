"""Pages and tables of what experiments measured."""
