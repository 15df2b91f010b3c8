"""Texts for language models: which tokens are trained, and the batches of them."""
