"""How what a teacher says of tokens is written, a row a token; each file is a codec."""
