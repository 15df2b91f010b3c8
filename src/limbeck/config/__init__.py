"""The recipe: grammar, reader, composition, checks and provenance."""
