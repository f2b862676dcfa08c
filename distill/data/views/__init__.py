"""Views: how an image is changed, as a pure function of (seed, sample index, view number)."""
