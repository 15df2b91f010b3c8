"""Judges models by what they said: metrics, calibration, agreement, similarity, cost."""
