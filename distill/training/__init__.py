"""Train one network: the loop, its step, its resume point, its log and the files that it writes."""
