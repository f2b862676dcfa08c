"""What looks at finished things: costs, checks, measures, exports."""
