"""What may happen between two rounds of a stage; one file each."""
