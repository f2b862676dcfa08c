"""Executors, which run the stages of a graph in one of several places; numbers do not depend on the place."""
