"""Run the stages of a graph in one of several places; the numbers do not depend on the place."""
