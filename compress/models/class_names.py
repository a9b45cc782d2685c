"""A network's outputs are classes in an order: that of its training must be the data's."""

from compress.utils.errors import UserError


def check_class_names(known: object, classes: tuple[str, ...]) -> None:
    """Compares the names that a weights file carries with the data's.

    Args:
        known: a list of names; anything else means that the file does not say.

    Raises:
        UserError: others, or the same in another order.
    """
    if not isinstance(known, list) or tuple(known) == classes:
        return
    unknown = sorted(set(classes) - set(known))
    missing = sorted(set(known) - set(classes))
    text = []
    if unknown:
        text.append(f"{len(unknown)} only in the data ({', '.join(unknown[:3])})")
    if missing:
        text.append(f"{len(missing)} only in the weights ({', '.join(missing[:3])})")
    raise UserError(
        "The teacher's weights name other classes than the data: "
        f"{'; '.join(text) or 'the same names in another order'}. Use the data it was trained on, "
        "or train the last part anew on yours (teacher.train_only: classifier, and teacher.train)."
    )
