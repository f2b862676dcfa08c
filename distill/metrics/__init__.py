"""Compute measures of a network's predictions: functions of logits [n, k] and labels [n], in float64."""
