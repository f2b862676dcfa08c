"""Run the command `distill`: parse its arguments and print results; the logic is in other packages."""
