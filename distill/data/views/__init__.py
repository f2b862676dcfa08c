"""Change images into views, as a pure function of (seed, sample index, view number)."""
