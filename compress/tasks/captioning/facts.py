"""Which facts a sentence tells, read back from it by phrases."""

from collections.abc import Mapping, Sequence

from compress.tasks.captioning.words import words_of

Facts = Mapping[str, Sequence[str | Sequence[str]]]  # by name, the phrases of each value
Told = tuple[frozenset[int], ...]  # of each fact, the values that a sentence names


class Reader:
    """Reads facts; phrases are words in a row, and a longer one hides those within it."""

    def __init__(self, facts: Facts) -> None:
        self.names = tuple(facts)
        self._phrases = [_by_length(values) for values in facts.values()]

    def read(self, words: Sequence[str]) -> Told:
        """Return what a sentence tells."""
        text = f" {' '.join(words)} "
        return tuple(_named(text, phrases) for phrases in self._phrases)

    def score(self, said: Told, captions: Sequence[Told]) -> float | None:
        """Return the share of facts right, of those that any caption names; None: none does.

        A fact is right where just the values are said that one of the captions names.
        """
        right = []
        for number, values in enumerate(said):
            named = [caption[number] for caption in captions if caption[number]]
            if named:
                right.append(values in named)
        return sum(right) / len(right) if right else None

    def combination(self, captions: Sequence[Told]) -> tuple[tuple[int, ...], ...]:
        """Return all values of each fact that an image's captions tell together."""
        return tuple(
            tuple(sorted(frozenset[int]().union(*each))) for each in zip(*captions, strict=True)
        )


def _by_length(values: Sequence[str | Sequence[str]]) -> list[tuple[str, int]]:
    """Return the phrases with their value, those of most words first."""
    found = [
        (f" {' '.join(words_of(phrase))} ", value)
        for value, phrases in enumerate(values)
        for phrase in ([phrases] if isinstance(phrases, str) else phrases)
    ]
    return sorted(found, key=lambda x: -len(x[0].split()))


def _named(text: str, phrases: Sequence[tuple[str, int]]) -> frozenset[int]:
    found = set()
    for phrase, value in phrases:
        if phrase in text:
            found.add(value)
            text = text.replace(phrase, " | ")
    return frozenset(found)
