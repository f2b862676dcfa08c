"""Plan and run the graph of stages: find missing stages, run them, and plan what an experiment asks for."""
