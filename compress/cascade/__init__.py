"""Cascades: one network finds where to look, the next looks there; compressed as a whole."""
