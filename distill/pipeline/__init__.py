"""The graph of stages: which stages are missing, how each is run, and what an experiment asks for."""
