"""What a recipe says of a shared space: towards identities or words, and how it is learned."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.tasks.margins import ArcFace, CosFace
from compress.tasks.settings import LossSettings, TaskSettings
from compress.utils.settings import Positive, RecipeModel


class ProxyAnchor(RecipeModel):
    """Kim et al. 2020, arXiv:2003.13911: each class's proxy against the images of a batch."""

    name: Literal["proxy_anchor"]
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scale: Positive = 32.0


class SupCon(RecipeModel):
    """Khosla et al. 2020, arXiv:2004.11362: the images of a batch against each other.

    Only classes with two images in a batch teach it anything: it wants large batches, few classes.
    """

    name: Literal["supcon"]
    temperature: Positive = 0.1


class TowardsWords(RecipeModel):
    """One minus the cosine of the image's vector and its labels'."""

    name: Literal["cosine"] = "cosine"


class HingeRank(RecipeModel):
    """Frome et al. 2013 (DeViSE): its label is to be nearer than any other, by a margin."""

    name: Literal["hinge_rank"]
    margin: Annotated[float, Field(gt=0, le=2)] = 0.1


class Vectors(RecipeModel):
    """Of words, from a file: word2vec's text or binary format, or GloVe's.

    Files are paths below the folder of the images, or absolute ones.
    """

    file: str

    @property
    def source(self) -> str:
        """The file."""
        return self.file


class Text(RecipeModel):
    """Of words, learned from a text with a sentence a line.

    `ppmi`: truncated SVD of the shifted positive pointwise mutual information of words that stand
    near each other (Levy & Goldberg 2014). `skip_gram`: with negative sampling (Mikolov et al.
    2013), which gensim learns.
    """

    text: str
    method: Literal["ppmi", "skip_gram"] = "ppmi"
    window: Annotated[int, Field(ge=1, le=100)] = 5  # words to either side
    negatives: Annotated[int, Field(ge=1, le=100)] = 5  # of skip-gram; the shift is its logarithm

    @property
    def source(self) -> str:
        """The file."""
        return self.text


IDENTITIES = ("arcface", "cosface", "proxy_anchor", "supcon")


class Space(TaskSettings):
    """Towards identities, the labels as they are, or towards the vectors of their words.

    `more_labels` are answered, too, though no image has them: a word with a vector is enough.
    """

    dimension: Annotated[int, Field(ge=16, le=512)] = 128  # numbers of a vector
    words: Vectors | Text | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None  # of several labels an image
    more_labels: list[str] = []
    loss: (
        Annotated[
            ArcFace | CosFace | ProxyAnchor | SupCon | TowardsWords | HingeRank,
            Field(discriminator="name"),
        ]
        | None
    ) = None  # none: cosine towards words, else arcface

    @model_validator(mode="after")
    def _a_loss_of_its_kind(self) -> Self:
        if self.loss is not None and (self.loss.name in IDENTITIES) == (self.words is not None):
            fits = "cosine or hinge_rank" if self.words else ", ".join(IDENTITIES)
            where = "towards words" if self.words else "of identities"
            raise ValueError(f"loss {self.loss.name} is none {where}: choose {fits}")
        if self.words is None and self.separator is not None:
            raise ValueError("separator is for several words an image: name words, or remove it")
        if self.words is None and self.more_labels:
            raise ValueError("more_labels are known by their words alone: name words")
        return self

    @property
    def learned_by(self) -> ArcFace | CosFace | ProxyAnchor | SupCon | TowardsWords | HingeRank:
        """The loss, where the recipe names none, too."""
        return self.loss or (TowardsWords() if self.words else ArcFace())


class Cosine(LossSettings):
    """One minus the cosine of the vector and the teacher's: no label is needed."""

    name: Literal["cosine"] = "cosine"


class Relational(LossSettings):
    """Park et al. 2019, arXiv:1904.05068: distances and angles among the images of a batch.

    The student may turn the space: for identities, whose gallery is the network's own.
    """

    name: Literal["relational"]
    distance: Annotated[float, Field(ge=0)] = 1.0  # weight
    angle: Annotated[float, Field(ge=0)] = 2.0
