"""Who teaches: sources of signals, each right by construction."""
