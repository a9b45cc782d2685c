"""Images with labels, splits and annotations, from whatever layout a user has."""
