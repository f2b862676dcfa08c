"""Name the version of this package; packaging, records and `distill --version` read it here."""

__version__ = "0.1.0"
