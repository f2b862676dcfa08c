"""The graph of stages: what is missing, how one stage is run, and what an experiment asks for."""
