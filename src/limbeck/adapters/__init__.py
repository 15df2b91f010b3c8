"""Bridges from the student's features to the teacher's; the name of a file is the name of its adapter."""
