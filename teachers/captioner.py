"""Show, attend and tell: VGG's last map as columns, a sentence of it word by word.

Xu et al. 2015, arXiv:1502.03044, with soft attention. A network of a fixed number of steps: its
file takes an image and gives the words' logits and where it looked, with no loop outside.
"""

from typing import Any

import torch
from torch import Tensor, nn

from teachers import vgg
from teachers.vgg import prepare_weights

__all__ = ["prepare_weights", "vgg16_bn"]

END = 0  # the word that ends a sentence, see `compress.tasks.captioning`


class Decoder(nn.Module):
    """An LSTM that looks at an image's columns before each word.

    Args:
        channels: of a column.
        words: of the vocabulary; `steps`: that a sentence has at most.
        units: of the LSTM; `embedding`: numbers of a word; `attention`: units that compare.
    """

    def __init__(
        self,
        channels: int,
        words: int,
        steps: int,
        units: int,
        embedding: int,
        attention: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.steps, self.words, self.parts = steps, words, [3 * units, units]
        self.embed = nn.Embedding(words + 1, embedding)  # the last one begins a sentence
        self.begin = nn.Linear(channels, 2 * units)
        self.keys = nn.Conv2d(channels, attention, 1)
        self.query = nn.Linear(units, attention)
        self.score = nn.Parameter(torch.empty(attention, 1).uniform_(-1, 1) * attention**-0.5)
        self.gate = nn.Linear(units, 1)  # how much the image counts for this word
        self.cell = nn.Linear(embedding + channels + units, 4 * units)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(embedding + channels + units, words)

    def forward(self, features: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits (n, steps, words) and attention (n, steps, columns), of sum 1 each.

        Args:
            features: a map (n, channels, height, width), each of whose places is a column.
            told: words (n, steps) that it is to have said; None: those that it says itself.
        """
        keys, columns = self.keys(features).flatten(2), features.flatten(2)
        hidden, memory = torch.tanh(self.begin(columns.mean(2))).chunk(2, 1)
        word = torch.full_like(columns[:, 0, 0], self.words, dtype=torch.long)
        logits, looks = [], []
        for step in range(self.steps):
            near = torch.tanh(keys + self.query(hidden).unsqueeze(2)) * self.score
            look = near.sum(1).softmax(1)
            seen = (columns * look.unsqueeze(1)).sum(2) * torch.sigmoid(self.gate(hidden))
            said = self.embed(word)
            gates, new = self.cell(torch.cat([said, seen, hidden], 1)).split(self.parts, 1)
            enter, keep, give = torch.sigmoid(gates).chunk(3, 1)
            memory = keep * memory + enter * torch.tanh(new)
            hidden = give * torch.tanh(memory)
            logits.append(self.out(self.dropout(torch.cat([said, seen, hidden], 1))))
            looks.append(look)
            word = logits[-1].argmax(1) if told is None else told[:, step]
        return torch.stack(logits, 1), torch.stack(looks, 1)


class Captioner(nn.Module):
    """An encoder's map, and a sentence of it.

    While it is trained it may be told which words to have said before each (teacher forcing),
    several sentences an image; its outputs then have an axis of sentences behind that of images.
    """

    def __init__(self, features: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.features = features
        self.decoder = decoder
        self._told: Tensor | None = None

    def see_targets(self, targets: Tensor) -> None:
        """Take the words of the next images' sentences, (n, sentences, steps), -1 behind the end.

        The training loop calls this before it shows the images.
        """
        self._told = targets

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return `tokens` (n, steps, words), logits, and `attention` (n, steps, columns)."""
        features = self.features(pictures)
        if not self.training or self._told is None:
            tokens, attention = self.decoder(features, None)
            return {"tokens": tokens, "attention": attention}
        told, self._told = self._told, None
        count, sentences, _ = told.shape
        each = features.repeat_interleave(sentences, 0)
        found = self.decoder(each, told.flatten(0, 1).clamp(min=END))
        tokens, attention = (x.unflatten(0, (count, sentences)) for x in found)
        return {"tokens": tokens, "attention": attention}


def captioner(
    features: nn.Module, channels: int, num_classes: int, steps: int, **settings: Any
) -> Captioner:
    """Return an encoder with its decoder.

    Args:
        num_classes: numbers of the logits: words times steps.

    Raises:
        ValueError: the task's sentences have another number of steps.
    """
    if num_classes % steps:
        raise ValueError(
            f"{num_classes} logits are not of {steps} steps: give it the same steps as the task"
        )
    return Captioner(features, Decoder(channels, num_classes // steps, steps, **settings))


def vgg16_bn(
    num_classes: int,
    steps: int = 16,
    width: float = 1.0,
    units: int = 512,
    embedding: int = 128,
    attention: int = 256,
    dropout: float = 0.5,
) -> Captioner:
    """VGG16-BN up to its last map, whose sides are a 16th of the image's; weights' names are VGG's.

    Args:
        num_classes: words of the vocabulary times `steps`.
        width: factor on the channels of the convolutions.
        units: of the LSTM; `embedding`: numbers of a word; `attention`: units that compare.
    """
    features = vgg.vgg16_bn(width=width, classifier_width=1).features[:-1]  # without the last pool
    channels = [m.num_features for m in features if isinstance(m, nn.BatchNorm2d)][-1]
    sizes = {"units": units, "embedding": embedding, "attention": attention}
    return captioner(features, channels, num_classes, steps, dropout=dropout, **sizes)
