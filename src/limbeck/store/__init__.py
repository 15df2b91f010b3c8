"""Teacher signals on disk: made once, read by any number of students. docs/store.md describes the format."""
