"""What is done to the signals of both models before a loss compares them; one file each."""
