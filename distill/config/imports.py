"""Define the config of logits that were made elsewhere and lie in files, and the flags that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from distill.config.base import Config
from distill.config.data import AugmentConfig, DataConfig
from distill.errors import UserError
from distill.system.files import expanded

Mean = Literal["probabilities", "logits"]
"""What is averaged over several networks: their probabilities or their logits."""
Values = Literal["logits", "probabilities", "log-probabilities"]
"""What files of logits from elsewhere contain."""
LogitType = Literal["float16", "float32"]
"""The dtype in which a logit is stored."""


class _Declared(Config):
    """Hold what the user declares of imported logits: what the values are, and how several arrays are averaged."""

    values: Values = "logits"
    """What arrays contain; a TinyViT file set always contains probabilities."""
    mean: Mean = "probabilities"
    """What is averaged when several arrays are given."""
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Temperature at which the probabilities were softened: logits are this many times their logarithms."""

    @model_validator(mode="after")
    def _softened(self) -> Self:
        if self.temperature != 1 and self.values == "logits":
            expected = "1 for logits, which no temperature has softened"
            raise UserError("temperature", self.temperature, expected, "Set `values=probabilities`, or drop it.")
        return self


class ImportConfig(_Declared):
    """Describe logits that were made elsewhere and lie in files.

    The files are proven by their sha256. Who made the logits, and from which pixels, is declared.
    """

    stage: Literal["import"] = "import"
    sha256: Annotated[tuple[str, ...], Field(min_length=1)]
    """sha256 of each file, in the order given."""
    classes: tuple[str, ...]
    """Names of the columns."""
    names: str = ""
    """sha256 of the file that names the image of each row; empty where no such file was given."""
    teacher: str = ""
    """Who made the logits, in words."""


class ImportFlags(_Declared):
    """Hold what the user declares when importing logits: their images, classes, order, views and teacher."""

    data: DataConfig = DataConfig()
    """The transfer set that the logits answer."""
    classes: tuple[str, ...] = ()
    """Names of the columns, or a file with a name on each line; none takes the data set's order."""
    names: Annotated[Path, AfterValidator(expanded)] | None = None
    """File with the name of each row's image on a line, such as cat/1.png; a .npz may have them as its array paths.
    Rows are put into the order of the images; without names their order is declared, not proven."""
    augment: AugmentConfig = AugmentConfig()
    """The view program whose views the logits are declared to answer."""
    view_seed: int = 0
    """Seed of the views."""
    dtype: LogitType = "float16"
    """The dtype in which a logit is stored."""
    top_k: int | None = None
    """Keep only this many logits per view; None keeps what the files have."""
    teacher: str = ""
    """Who made the logits, in words."""
