"""Training of one network: the loop, its step, its resume point, its log, and what it leaves behind."""
