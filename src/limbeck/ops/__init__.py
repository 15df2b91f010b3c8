"""Pure tensor mathematics without the names of papers."""
