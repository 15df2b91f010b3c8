"""Reads intermediate values of a model by layer path."""
