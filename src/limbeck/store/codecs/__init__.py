"""How a signal is written: what is kept of it and in how many bytes; one file each."""
