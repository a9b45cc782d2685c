"""A network's outputs are classes in an order: that of its weights' names, or else the data's."""

import unicodedata

from compress.utils.errors import UserError


def check_class_names(known: object, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Gives the data's classes in the order of the network's outputs.

    Args:
        known: a list of names from a weights file; anything else means that it does not say, and
            the data's order is taken for its own.

    Raises:
        UserError: the file names other classes than the data.
    """
    if not isinstance(known, list):
        return classes
    # macOS writes the accents of a folder's name as characters of their own.
    spelled = {unicodedata.normalize("NFC", name): name for name in classes}
    known = [unicodedata.normalize("NFC", str(name)) for name in known]
    names = tuple(spelled.get(name, name) for name in known)
    if sorted(names) == sorted(classes):
        return names
    unknown = sorted(set(classes) - set(names))
    missing = sorted(set(names) - set(classes))
    text = []
    if unknown:
        text.append(f"{len(unknown)} only in the data ({', '.join(unknown[:3])})")
    if missing:
        text.append(f"{len(missing)} only in the weights ({', '.join(missing[:3])})")
    raise UserError(
        "The teacher's weights name other classes than the data: "
        f"{'; '.join(text) or 'some of them twice'}. Use the data it was trained on, "
        "or train the last part anew on yours (teacher.train_only: classifier, and teacher.train)."
    )
