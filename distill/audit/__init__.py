"""Estimate the cost of a run, and evaluate, check, repair and export finished artifacts."""
