"""Run the stages of a graph in this process, in several processes or on a Ray cluster; the numbers are the same."""
