"""Measures of a network's predictions: pure functions of logits [n, k] and labels [n], computed in float64."""
