"""How a batch becomes an update; one file each."""
