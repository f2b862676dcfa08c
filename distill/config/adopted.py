"""Define the config of a network from elsewhere: which weights it has, what it takes and which logits it gives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill.config.base import Config, Count, NonNegative, Positive
from distill.config.data import DataConfig
from distill.config.network import ModelConfig
from distill.errors import UserError

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
"""How pixels are interpolated when an image is resized."""
Crop = Annotated[float, Field(gt=0, le=1)]


class PreprocessingConfig(Config):
    """Say how an image is prepared for a network: resized, cropped and normalised."""

    place = "preprocessing."

    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    """Mean of each channel, in 0..1 units; a grey image is repeated for a network of three channels."""
    std: tuple[Positive, ...]
    """Standard deviation of each channel, in 0..1 units."""
    height: Count
    """Pixels of the network's input, from top to bottom."""
    width: Count
    """Pixels of the network's input, from left to right."""
    interpolation: Interpolation = "bilinear"
    """How an image of another size is resized."""
    crop: Crop = 1.0
    """Share of the resized shorter side that an evaluation of original files keeps; views are not cropped."""

    @model_validator(mode="after")
    def _one_per_channel(self) -> PreprocessingConfig:
        if len(self.mean) != len(self.std):
            expected = f"as many as means, {len(self.mean)}"
            raise UserError("preprocessing.std", self.std, expected, "Give one of each per channel.")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the channels, height and width of the network's input."""
        return len(self.mean), self.height, self.width


class AdoptedConfig(Config):
    """Describe a classifier that was trained elsewhere, by the content of its file of weights.

    The weights are proven by the sha256 of that file, and what they are worth is measured. How they were trained is
    declared.
    """

    stage: Literal["adopted"] = "adopted"
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """sha256 of the file of weights."""
    ema: bool = False
    """Whether the averaged weights of the file were taken, not the last ones."""
    model: ModelConfig
    data: DataConfig = DataConfig()
    """The images that the network was measured on, whose classes its logits have."""
    preprocessing: PreprocessingConfig
    outputs: Count
    """Number of logits that the weights give."""
    columns: tuple[NonNegative, ...] = ()
    """Which of these logits each class of the data set has; none where all are taken in their order."""
    only_weights: bool = False
    """Whether the weights were taken without a look at the network's answers: a training may begin with them, and
    nothing else."""
    provenance: str = ""
    """Where the weights come from, in words or as a tag such as timm:resnet50.a1_in1k; declared, not proven."""

    @model_validator(mode="after")
    def _columns_exist(self) -> AdoptedConfig:
        if len(set(self.columns)) < len(self.columns) or max(self.columns, default=0) >= self.outputs:
            expected = f"numbers from 0 to {self.outputs - 1}, each once"
            raise UserError("columns", self.columns, expected, "Adopt the weights again.")
        return self

    def refuse_only_weights(self) -> None:
        """Raise a UserError if nothing but the weights is known of this network."""
        if self.only_weights:
            value = f"{self.model.name}, of which only the weights were adopted"
            way_out = f"Adopt the file with its classes: `distill adopt FILE --model {self.model.name}`."
            raise UserError("network", value, "one whose answers are known", way_out)

    @property
    def snapshots(self) -> int:
        """Return the number of snapshots, none: only the weights at the end are known."""
        return 0

    @property
    def augment(self) -> None:
        """Return None, since it is not known on which views the network was trained."""


class AdoptFlags(Config):
    """Hold what the user says about a network from elsewhere."""

    model: ModelConfig
    data: DataConfig = DataConfig()
    """The images that it is measured on."""
    pretrained: bool = False
    """Take the weights that timm or torchvision publish for this name, such as timm:resnet50.a1_in1k or
    torchvision:resnet50.IMAGENET1K_V2; the library fetches their file if it is not here."""
    ema: bool = False
    """Take the averaged weights of a checkpoint that has both."""
    classes: tuple[str, ...] = ()
    """Names of the network's outputs in their order, or a file with a name on each line; or a JSON file from each
    class of the data set to the number or the name of an output. Needed where the network has other classes than
    the data set, unless they are WordNet ids such as n01440764."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, in 0..1 units; none takes that of the library, else that of the data set."""
    std: tuple[Positive, ...] = ()
    """Standard deviation of each channel, in 0..1 units, as mean."""
    size: Count | None = None
    """Side of the network's input in pixels; None takes that of the library, else that of the images."""
    interpolation: Interpolation | None = None
    """How images of another size are resized; None takes that of the library, else bilinear."""
    crop: Crop | None = None
    """Share of the resized shorter side that an evaluation of original files keeps; None takes that of the library,
    else 1."""
    only_weights: bool = False
    """Take only the weights, to begin a training with them: classes and accuracy are not looked at."""
    provenance: str = ""
    """Where the weights come from, in words; declared, not checked."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("model"):
            way_out = "Name it, such as `model.name=timm:resnet50`, or `model.name=hf-hub:ORGANISATION/NAME`."
            raise UserError("model.name", None, "the network that the weights belong to", way_out)
        return values

    @model_validator(mode="after")
    def _classes_are_looked_at(self) -> AdoptFlags:
        if self.only_weights and self.classes:
            expected = "none with `only_weights`, which looks at no class"
            raise UserError("classes", self.classes, expected, "Drop one of them.")
        return self
