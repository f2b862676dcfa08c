"""Define the configs of data sets and of views."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.config.base import Count, Fraction, Kwargs, Seed, Share, function_of, or_function
from distill.config.contents import NamesContent
from distill.config.data_sets import DATA_SETS, EXPECTED, FOLDERS, short_name
from distill.errors import UserError


class DataConfig(NamesContent):
    """Choose the data set: its images, how its training set is split, and how many of its labels are wrong."""

    place = "data."

    name: Annotated[str, or_function("data.name"), Field(description=f"{EXPECTED}.")] = "digits"
    kwargs: Kwargs = {}
    """Arguments of the data set, as JSON. Of an image folder: {"stream": true} to decode images when they are
    needed, {"size": 64} in pixels, {"crop": 0.875} and {"interpolation": "bicubic"} for how they are cut to it,
    {"exif": true} to apply the EXIF orientation of photographs, {"test": 0.2} for the share of test images in a
    folder of classes without train/ and test/, and {"seed": 1} for another such share."""
    held_out: Fraction = 0.1
    """Share of the training set kept for model selection, stratified by class. An image folder with val/ beside
    test/ is not cut: the images of val/ are held out, and this share stays at its default or 0."""
    split_seed: Seed = 0
    """Seed of the split into training and held-out images."""
    limit: Count | None = None
    """Train on only about this many of the remaining images, equally many per class, rounded; None takes all."""
    balanced: bool = False
    """Draw each class equally often in an epoch of training, with replacement within a class, by the labels that
    are taught. An epoch stays as long as it was. A cache holds each image once and does not depend on it."""
    label_noise: Share = 0.0
    """Probability that a label is replaced by a wrong one, in training and held-out split; test labels stay."""
    noise: Literal["symmetric", "pair"] = "symmetric"
    """Kind of wrong labels. symmetric: a label becomes any other class; pair: it becomes the next class (both as in
    Han et al. 2018)."""
    noise_seed: Seed = 0
    """Seed of the wrong labels."""

    @property
    def plugin(self) -> str | None:
        """Return the reference of the function that gives the images, if the data set is a plug-in."""
        return function_of(self.name, *FOLDERS)

    @property
    def kind(self) -> str:
        """Return the part of the name before the colon, such as `imagefolder`."""
        return self.name.partition(":")[0]

    @property
    def folder(self) -> str | None:
        """Return the path of the folder or archive that holds the images, if the name gives one."""
        return self.name.partition(":")[2] or None if self.kind in FOLDERS else None

    @property
    def short_name(self) -> str:
        """Return the name for titles and tables, which is without the path of an image folder."""
        return short_name(self.name)

    @property
    def named(self) -> str:
        """Return the name of the data set if it is an image folder or a plug-in, else ""."""
        return self.name if self.folder or self.plugin else ""

    @model_validator(mode="after")
    def _known(self) -> DataConfig:
        if self.name not in DATA_SETS and not self.name.partition(":")[2]:
            raise UserError("data.name", self.name, f"one of {EXPECTED}", "Choose one of these.")
        return self


class AugmentConfig(NamesContent):
    """Choose the view program: how a view (seed, sample index, view number) changes an image."""

    place = "augment."

    pad: Annotated[int, Field(ge=0, le=256)] = 0
    """Random crop after zero padding by this many pixels on each side (a random shift)."""
    flip: bool = False
    """Random horizontal flip."""
    program: Annotated[str | None, or_function("augment.program")] = None
    """Use this program instead of pad and flip: package.module:factory of any transform of one PIL image, such as
    torchvision.transforms.v2:RandomResizedCrop or timm.data:create_transform."""
    kwargs: Kwargs = {}
    """Arguments of the factory that program names, such as {"size": 28}, as JSON."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Mix each view with another sample's, by a share from Beta(mixup, mixup); 0 does not mix."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a box of another sample's view, of a share from Beta(cutmix, cutmix); 0 pastes none. With mixup too, a
    fair coin picks one of the two."""

    @property
    def plugin(self) -> str | None:
        """Return the reference of the factory of the view program, or None if no program is named."""
        return self.program

    @property
    def mixes(self) -> bool:
        """Tell whether a view holds pixels of two samples."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _one_program(self) -> AugmentConfig:
        if self.program is not None and (self.pad or self.flip):
            crop = {"pad": self.pad, "flip": self.flip}
            way_out = "Put the crop and the flip into the program, or drop `augment.program`."
            raise UserError("augment", crop, "neither beside a program", way_out)
        if self.program is None and self.kwargs:
            raise UserError("augment.kwargs", self.kwargs, "none without `augment.program`", "Name a program.")
        return self
