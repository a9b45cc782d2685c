"""Which of a view's numbers says that the image is mirrored, and what it is then taken for."""

MIRROR = 10  # the column that says whether the image is mirrored, left to right, before all else
NEW_CLASS = 2
MIRRORS = {"same": 1, "new_class": NEW_CLASS}  # what it is then taken for
