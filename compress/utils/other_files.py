"""What people take for a network's file, told by how it begins."""

OTHER_FILES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run git lfs pull",
    b"<": "is a web page, not the file itself: download that",
    b"\x89HDF": "is an HDF5 file (Keras): export that model to ONNX (a recipe's teacher.onnx)",
}


def other_file(start: bytes) -> str | None:
    """Return what a file is by its first bytes, and what to do; None: none of these.

    Args:
        start: at least 30 bytes, or all.
    """
    found = (what for known, what in OTHER_FILES.items() if start.lstrip().startswith(known))
    return next(found, None)
