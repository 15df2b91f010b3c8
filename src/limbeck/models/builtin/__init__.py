"""Small models of Limbeck's own; the name of a file is the name of its model."""
