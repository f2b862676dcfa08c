"""Frozen configs of every stage: together they are the graph teacher → cache → student → analysis → report.

A config holds its inputs by value, so a student's config names its cache, which names its teacher. All that
may change a number lives here and all of it is hashed (`artifact.key`); what must not change a number lives
in `runtime`. Fields are never typed as a base class: pydantic would serialise the base's fields only, and two
different configs would get one key.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from distill import trust
from distill.errors import UserError

Kwargs = dict[str, Any]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def invalid(error: ValidationError, where: str) -> UserError:
    """The first complaint of pydantic, as one line of ours."""
    first = error.errors()[0]
    field = ".".join([where, *map(str, first["loc"])])
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return UserError(field, first["input"], expected, "Its description: --help.")


class Config(BaseModel):
    """What all configs share: frozen, no unknown field, no infinite number (JSON would write it as null)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that older versions did not have: at their default they are no part of the key, so that what was made
    before is still found."""

    def __init__(self, /, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from error

    def replace(self, **changes: Any) -> Self:
        """The same config with other values, validated (pydantic's `model_copy` would not validate)."""
        return type(self)(**{**dict(self), **changes})


class _MayNamePlugin(Config):
    """A config in which `package.module:function` may stand. Making it counts as naming that (`trust`)."""

    @property
    def plugin(self) -> str | None:
        """The function that would be imported, or None."""
        raise NotImplementedError

    def model_post_init(self, context: Any, /) -> None:
        """Note the plug-in. Not a validator: those run again when another config takes this one as its part."""
        if self.plugin is not None:
            trust.met(self.plugin)

    def replace(self, **changes: Any) -> Self:
        """As of all configs; a plug-in that stays as it was is not named by that."""
        with trust.reading():
            made = super().replace(**changes)
        if made.plugin is not None and made.plugin != self.plugin:
            trust.met(made.plugin)
        return made


def _function(name: str, *libraries: str) -> str | None:
    """The name, if it is of a function and not of something in one of the libraries."""
    library, _, function = name.partition(":")
    return name if function and library not in libraries else None


BUILT_IN_DATA = ("digits", "fashion-mnist", "mnist", "cifar10", "cifar100", "translation")


class DataConfig(_MayNamePlugin):
    """Which images, how the training set is split, and how many of its labels are wrong."""

    ADDED = frozenset({"label_noise", "noise", "noise_seed"})

    name: str = "digits"
    """digits, fashion-mnist, mnist, cifar10, cifar100, translation (sentences), imagefolder:PATH or
    package.module:function."""
    kwargs: Kwargs = {}
    """Arguments of the data set, such as {"size": 64} for an image folder, as JSON."""
    held_out: Fraction = 0.1
    """Share of the training set kept for model selection, stratified by class."""
    split_seed: Seed = 0
    """Seed of that split."""
    limit: Count | None = None
    """Train on only about so many of the images that are left, as many of each class, rounded; None takes all."""
    label_noise: Share = 0.0
    """Probability that a label is replaced by a wrong one, in training and held-out split; test labels stay."""
    noise: Literal["symmetric", "pair"] = "symmetric"
    """symmetric: by any other class; pair: by the next one (both as in Han et al. 2018)."""
    noise_seed: Seed = 0
    """Seed of the wrong labels."""

    @property
    def plugin(self) -> str | None:
        """The function that gives the images, of a plug-in."""
        return _function(self.name, "imagefolder")

    @model_validator(mode="after")
    def _known(self) -> DataConfig:
        if self.name not in BUILT_IN_DATA and not self.name.partition(":")[2]:
            expected = f"one of {', '.join(BUILT_IN_DATA)}, imagefolder:PATH or package.module:function"
            raise UserError("data.name", self.name, expected, "Choose one of these with --data.name.")
        return self


class ModelConfig(_MayNamePlugin):
    """Which network."""

    name: str = "mlp"
    """mlp, cnn, alexnet, resnet56, transformer (of sentences), timm:NAME, torchvision:NAME or
    package.module:function."""
    kwargs: Kwargs = {}
    """Arguments of the model, such as {"widths": [1200, 1200], "dropout": 0.5}, as JSON."""

    @property
    def plugin(self) -> str | None:
        """The function that builds the network, of a plug-in."""
        return _function(self.name, "timm", "torchvision")


class AugmentConfig(_MayNamePlugin):
    """The view program: how a view (seed, sample index, view number) changes an image."""

    pad: NonNegative = 0
    """Random crop after zero padding by this many pixels on each side (a random shift)."""
    flip: bool = False
    """Random horizontal flip."""
    program: str | None = None
    """Instead of pad and flip: package.module:factory of any transform of one PIL image, such as
    torchvision.transforms.v2:RandomResizedCrop or timm.data:create_transform."""
    kwargs: Kwargs = {}
    """Arguments of that factory, such as {"size": 28}, as JSON."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Mix each view with another sample's, by a share from Beta(mixup, mixup); 0 does not."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a box of another sample's view, of a share from Beta(cutmix, cutmix); with mixup too, a fair coin
    says which."""

    @property
    def plugin(self) -> str | None:
        """The factory of the view program."""
        return self.program

    @property
    def mixes(self) -> bool:
        """Whether a view holds pixels of two samples."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _one_program(self) -> AugmentConfig:
        if self.program is not None and (self.pad or self.flip):
            crop = {"pad": self.pad, "flip": self.flip}
            way_out = "Put the crop and the flip into the program, or drop --augment.program."
            raise UserError("augment", crop, "neither beside a program", way_out)
        if self.program is None and self.kwargs:
            way_out = "Name it by --augment.program."
            raise UserError("augment.kwargs", self.kwargs, "none without a program", way_out)
        return self


class OptimConfig(Config):
    """Optimiser, by timm's name for it."""

    name: str = "momentum"
    """Any optimiser that timm knows: momentum, sgd (Nesterov), adamw, lamb, ..."""
    lr: Positive = 0.1
    """Peak learning rate."""
    momentum: Fraction = 0.9
    """Momentum (beta1 for adaptive optimisers is set by kwargs)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, not applied to biases and norms."""
    head_lr: Positive = 1.0
    """Learning rate of the last layer, as a share of the others'."""
    clip: Positive | None = 1.0
    """Gradients are clipped to this norm; None does not clip."""
    kwargs: Kwargs = {}
    """Further arguments of the optimiser, as JSON."""


class ScheduleConfig(Config):
    """How long to train, and the learning rate over that time, by timm's schedulers."""

    ADDED = frozenset({"parts"})

    name: Literal["cosine", "linear", "step", "constant"] = "cosine"
    """Shape of the decay; linear and cosine end at lr x min_lr."""
    epochs: Count = 30
    """Passes over the training set (the transfer set, for a student)."""
    batch_size: Count = 128
    """Samples per step; the last incomplete batch of an epoch is dropped."""
    parts: Count = 1
    """Compute a batch in so many equal parts, whose gradients are averaged (gradient accumulation): it then takes
    less memory. Batch norm sees a part at a time; under torchrun this many ranks need not share its statistics."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear warm-up, in epochs."""
    min_lr: Share = 0.0
    """Final learning rate, as a share of the peak."""
    decay_epochs: tuple[float, ...] = ()
    """For step: the epochs at which the rate is multiplied by decay_rate."""
    decay_rate: Share = 0.1
    """For step: the factor."""

    @model_validator(mode="after")
    def _equal_parts(self) -> ScheduleConfig:
        if self.batch_size % self.parts:
            expected = f"a divisor of the batch size, {self.batch_size}"
            raise UserError("schedule.parts", self.parts, expected, "Change one of the two.")
        return self


def _one_spelling(fields: Any, kind: str, usual: str, known: dict[str, dict[str, float]]) -> Any:
    """The fields with defaults dropped from `kwargs` and whole numbers made floats, so that a loss has one key.

    Args:
        fields: as they were given; what is of a wrong type stays as it is, for pydantic to refuse.
        kind: the field that says which arguments there are.
        usual: its default.
        known: its value → the arguments with their defaults.
    """
    kwargs = fields.get("kwargs") if isinstance(fields, dict) else None
    if not isinstance(kwargs, dict):
        return fields
    chosen = fields.get(kind, usual)
    defaults = known.get(chosen, {}) if isinstance(chosen, str) else {}
    plain = {name: float(value) if type(value) is int else value for name, value in kwargs.items()}
    kept = {
        name: value for name, value in plain.items() if not (type(value) is float and value == defaults.get(name))
    }
    return fields | {"kwargs": kept}


SmoothingConvention = Literal["uniform", "others", "maxsup"]

TOWARDS: dict[str, dict[str, float]] = {
    "all": {},
    "hierarchy": {"beta": 4.0},
    "confusions": {"count": 1.0},
    "similar": {"temperature": 1.0},
    "matrix": {},
}
"""Where the smoothed mass may go, and the numbers that each takes, with their defaults."""
_TABLES = {"hierarchy": "tree", "matrix": "rows"}
"""What some of them need beside."""
_MOST_SOURCES = 16
NEEDS_SOURCE = ("confusions", "similar")
"""Those that are read from the held-out predictions of a trained network."""


class LabelsConfig(Config):
    """What a network is taught of its labels, beside one smoothing for all classes, samples and steps."""

    per_class: tuple[Fraction, ...] = ()
    """Label smoothing of each class in turn, instead of one for all."""
    towards: Literal["all", "hierarchy", "confusions", "similar", "matrix"] = "all"
    """Which other classes get the smoothed mass. all: alike; hierarchy: the nearer in a tree of classes the more
    (Bertinetto 2020); confusions: as the smoothing source confuses them, similar: by its mean probabilities, both
    on held-out images; matrix: as given."""
    kwargs: Kwargs = {}
    """Arguments of towards, as JSON: {"tree": [[0, 2], [[5, 7], 9]], "beta": 4} of hierarchy, {"count": 1} (added
    to each) of confusions, {"temperature": 1} of similar, {"rows": [[0, 1], [1, 0]]} of matrix."""
    schedule: Literal["constant", "linear", "cosine", "warm-down"] = "constant"
    """Smoothing over the steps. linear, cosine: from first x smoothing to all of it; warm-down: all of it, then
    linearly to 0."""
    first: Annotated[float, Field(ge=0)] = 0.0
    """Of linear and cosine: smoothing at the first step, relative to that at the last (above 1 it falls)."""
    hold: Fraction = 0.5
    """Of warm-down: the part of the steps before it falls."""
    by_sample: Literal["none", "difficulty", "confidence"] = "none"
    """Smoothing of each sample. difficulty: times 1 - p(label), hard ones the most; confidence: times
    1 - H(p)/log K, sure ones the most (Lee 2022). p is the network's own, without gradient."""
    confidence_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Entropy of the answer times this is taken off the loss (Pereyra 2017)."""
    on_mixed: bool = False
    """Smoothing on top of mixup or cutmix, whose labels are soft already, is meant: no warning."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "towards", "all", TOWARDS)

    @model_validator(mode="after")
    def _arguments_fit(self) -> LabelsConfig:
        numbers, table = TOWARDS[self.towards], _TABLES.get(self.towards)
        if table and not isinstance(self.kwargs.get(table), list):
            expected = f"{table}, a list, for {self.towards}"
            raise UserError("labels.kwargs", self.kwargs, expected, "Its description: --help.")
        for name, value in self.kwargs.items():
            if name != table and not (name in numbers and isinstance(value, float) and 0 < value < math.inf):
                expected = f"positive numbers for {', '.join(numbers)}" if numbers else f"none for {self.towards}"
                raise UserError("labels.kwargs", {name: value}, expected, "Its description: --help.")
        if self.first != 0 and self.schedule not in ("linear", "cosine"):
            raise UserError("labels.first", self.first, f"0 with the schedule {self.schedule}", "Drop it.")
        if self.hold != 0.5 and self.schedule != "warm-down":
            raise UserError("labels.hold", self.hold, f"0.5 with the schedule {self.schedule}", "Drop it.")
        return self

    def check(self, smoothing: float, convention: SmoothingConvention) -> None:
        """Raise a UserError when this does not go with that smoothing."""
        if self.per_class and smoothing:
            raise UserError("smoothing", smoothing, "0 beside labels.per_class", "Drop one of them.")
        strongest = max((smoothing, *self.per_class))
        wants_some = self.towards != "all" or self.schedule != "constant" or self.by_sample != "none"
        if wants_some and strongest == 0:
            expected = "more than 0, since labels asks where or when it applies"
            raise UserError("smoothing", 0.0, expected, "Set --smoothing or --labels.per-class.")
        if self.first * strongest >= 1:
            expected = f"less than {1 / strongest:g}, so that smoothing stays below 1"
            raise UserError("labels.first", self.first, expected, "Lower it.")
        if convention == "maxsup" and (self.per_class or self.towards != "all" or self.by_sample != "none"):
            expected = "uniform or others with labels.per_class, towards and by_sample"
            raise UserError(
                "smoothing_convention", convention, expected, "Maximum suppression takes a schedule only."
            )

    def check_source(self, source: object) -> None:
        """Raise a UserError when a smoothing source is missing, or given for nothing."""
        needs = self.towards in NEEDS_SOURCE
        if needs and source is None:
            way_out = "Give --smoothing-source, the path or key of a trained teacher."
            raise UserError("smoothing_source", None, f"a teacher for labels.towards {self.towards}", way_out)
        if source is not None and not needs:
            expected = f"none for labels.towards {self.towards}"
            raise UserError("smoothing_source", "given", expected, "Drop it, or set --labels.towards similar.")


SOFT_TERMS: dict[str, dict[str, float]] = {
    "kl": {},
    "logit-matching": {},
    "standardised": {},
    "dkd": {"target": 1.0, "nontarget": 8.0},
    "dist": {"inter": 1.0, "intra": 1.0},
    "wsl": {},
    "decoupled": {"label_temperature": 8.0},
}
"""Soft terms and the arguments that each takes, with their defaults. The label's temperature is twice that of the
others by default, as Li 2022 have it (4 and 2)."""


class LossConfig(Config):
    """Targets of a student: (1 - alpha) x hard term + alpha x soft term."""

    ADDED = frozenset({"labels"})

    alpha: Share = 1.0
    """Weight of the soft term; 0 trains from labels alone."""
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    """Temperature of the soft targets."""
    temperature_on: Literal["both", "teacher"] = "both"
    """both: Hinton's, times T²; teacher: Müller's CIFAR runs, no T²."""
    soft: Literal["kl", "logit-matching", "standardised", "dkd", "dist", "wsl", "decoupled"] = "kl"
    """kl: KL(teacher || student); logit-matching: ½ ||z_s - z_t||² (Müller's MNIST runs); standardised: KL of
    logits as z-scores (Sun 2024, T=2); dkd: decoupled (Zhao 2022, T=4); dist: correlations (Huang 2022, T=1); wsl:
    weighted by sample (Zhou 2021, T=2); decoupled: a temperature of its own for the label (ATS, Li 2022, T=2)."""
    kwargs: Kwargs = {}
    """Arguments of the soft term, as JSON: {"target": 1, "nontarget": 8} of dkd, {"inter": 1, "intra": 1} of dist,
    {"label_temperature": 8} of decoupled."""
    smoothing: Fraction = 0.0
    """Label smoothing of the hard term."""
    smoothing_convention: SmoothingConvention = "uniform"
    """uniform: (1-ε)y + ε/K; others: 1-ε for the label, ε/(K-1) for each other class; maxsup: hard labels, and ε
    times the largest logit over the mean one (Zhou 2025)."""
    labels: LabelsConfig = LabelsConfig()
    """What else the hard term does with labels."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        return _one_spelling(fields, "soft", "kl", SOFT_TERMS)

    @model_validator(mode="after")
    def _arguments_of_the_soft_term(self) -> LossConfig:
        known = SOFT_TERMS[self.soft]
        for name, value in self.kwargs.items():
            if name not in known or not isinstance(value, float) or not 0 < value < math.inf:
                expected = f"positive numbers for {', '.join(known)}" if known else f"none for {self.soft}"
                raise UserError("loss.kwargs", self.kwargs, expected, "Its description: --help.")
        if self.temperature_on == "teacher" and self.soft != "kl":
            way_out = "Drop --loss.temperature-on, or take --loss.soft kl."
            raise UserError("loss.temperature_on", "teacher", f"both for {self.soft}", way_out)
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> LossConfig:
        self.labels.check(self.smoothing, self.smoothing_convention)
        if self.alpha == 1 and self.labels != LabelsConfig():
            asked = self.labels.model_dump(exclude_defaults=True)
            expected = "none at alpha = 1, where soft targets are all that is taught"
            raise UserError("loss.labels", asked, expected, "Lower --loss.alpha.")
        return self


class _Training(Config):
    """Fields that teacher and student share."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: Fraction | None = None
    """Decay of an exponential moving average of the weights; the average is what is kept."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Autocast dtype of forward and backward."""
    snapshots: NonNegative = 0
    """Keep the initial weights and those after each of so many equal parts of training, for measures along it."""
    seed: Seed = 0
    """Seed of initial weights, order, views and dropout."""


class TeacherConfig(_Training):
    """A classifier trained from labels, with or without label smoothing."""

    ADDED = frozenset({"labels", "smoothing_source"})

    stage: Literal["teacher"] = "teacher"
    smoothing: Fraction = 0.0
    """Label smoothing ε."""
    smoothing_convention: SmoothingConvention = "uniform"
    """uniform: (1-ε)y + ε/K; others: 1-ε for the label, ε/(K-1) for each other class; maxsup: hard labels, and ε
    times the largest logit over the mean one (Zhou 2025)."""
    labels: LabelsConfig = LabelsConfig()
    """What else is done with labels."""
    smoothing_source: TeacherConfig | None = None
    """The trained network whose held-out predictions say which classes are confused, or alike."""

    @model_validator(mode="after")
    def _labels_fit(self) -> TeacherConfig:
        source, count = self.smoothing_source, 0
        while source is not None:
            source, count = source.smoothing_source, count + 1
        if count > _MOST_SOURCES:
            expected = f"at most {_MOST_SOURCES} networks of which each is the source of the next"
            raise UserError("smoothing_source", f"{count} in a row", expected, "Name a source of its own.")
        self.labels.check(self.smoothing, self.smoothing_convention)
        self.labels.check_source(self.smoothing_source)
        return self


class EnsembleConfig(Config):
    """Several teachers as one."""

    stage: Literal["ensemble"] = "ensemble"
    members: Annotated[tuple[TeacherConfig, ...], Field(min_length=2)]
    mean: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged; the logits of mean probabilities are their logarithms."""

    @model_validator(mode="after")
    def _different_members(self) -> EnsembleConfig:
        if len(set(map(repr, self.members))) < len(self.members):
            value = f"{len(self.members)} teachers, some of them the same"
            raise UserError("teacher", value, "teachers that differ", "Name each once.")
        return self


class ImportConfig(Config):
    """Logits from elsewhere: the files are proven, who made them and from which pixels is declared."""

    stage: Literal["import"] = "import"
    sha256: Annotated[tuple[str, ...], Field(min_length=1)]
    """Of each file, in the order given."""
    values: Literal["logits", "probabilities", "log-probabilities"] = "logits"
    """What the files hold."""
    mean: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged when several arrays are given."""
    classes: tuple[str, ...]
    """Names of the columns."""
    teacher: str = ""
    """Who made them, in words."""


class CacheConfig(Config):
    """A teacher's logits on a transfer set. No temperature and no alpha: a sweep over them shares one cache."""

    stage: Literal["cache"] = "cache"
    teacher: Annotated[TeacherConfig | EnsembleConfig | ImportConfig, Discriminator("stage")] = TeacherConfig()
    snapshot: NonNegative | None = None
    """Of a teacher that kept snapshots: its weights after so many of those parts of its training, 0 the initial
    ones; None takes those at the end."""
    transfer_set: DataConfig = DataConfig()
    """The inputs that students will see: the training split of this data set."""
    augment: AugmentConfig = AugmentConfig()
    """View program of the cached images; students see exactly these views."""
    views: Count = 1
    """Views per image; epoch e reads view e mod views."""
    view_seed: Seed = 0
    """Seed of the views."""
    dtype: Literal["float16", "float32"] = "float16"
    """How a logit is stored."""
    top_k: Count | None = None
    """Store only the largest so many logits and the log-sum-exp of the rest; None stores all of them."""

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks whose logits these are; none when they were imported."""
        match self.teacher:
            case TeacherConfig():
                return (self.teacher,)
            case EnsembleConfig():
                return self.teacher.members
            case ImportConfig():
                return ()

    @model_validator(mode="after")
    def _one_image_one_view(self) -> CacheConfig:
        if self.views > 1 and self.augment == AugmentConfig():
            raise UserError(
                "views",
                self.views,
                "1 without augmentation, since all views are then the same image",
                "Set --augment.pad, --augment.flip or --augment.program, or drop --views.",
            )
        return self

    @model_validator(mode="after")
    def _kept_snapshot(self) -> CacheConfig:
        kept = self.teacher.snapshots if isinstance(self.teacher, TeacherConfig) else 0
        if self.snapshot is not None and not (kept and self.snapshot <= kept):
            expected = (
                f"0 to {kept} for its teacher" if kept else "none for a teacher that keeps none, or for several"
            )
            raise UserError("snapshot", self.snapshot, expected, "Train the teacher with more --snapshots.")
        return self


class StudentConfig(_Training):
    """A network that learns from a cache of soft targets, or from labels alone (`cache` None)."""

    ADDED = frozenset({"smoothing_source"})

    stage: Literal["student"] = "student"
    cache: CacheConfig | None = None
    """The soft targets, and with them the views."""
    views: Count | None = None
    """Read only the first so many views of the cache: epoch e reads view e mod views; None reads all."""
    loss: LossConfig = LossConfig()
    exclude_classes: tuple[NonNegative, ...] = ()
    """Classes left out of the transfer set: the student never sees them (Hinton et al. 2015, section 3)."""
    smoothing_source: TeacherConfig | None = None
    """The trained network whose held-out predictions say which classes are confused, or alike."""

    @model_validator(mode="after")
    def _labels_fit(self) -> StudentConfig:
        self.loss.labels.check_source(self.smoothing_source)
        return self

    @model_validator(mode="after")
    def _fits_its_cache(self) -> StudentConfig:
        if self.cache is None:
            if self.loss.alpha != 0:
                raise UserError(
                    "loss.alpha",
                    self.loss.alpha,
                    "0 for a student without a cache, since there are no soft targets",
                    "Give a cache or set --loss.alpha 0.",
                )
            if self.views is not None:
                way_out = "Drop --views; without a cache every epoch shows a new view."
                raise UserError("views", self.views, "None for a student without a cache", way_out)
            if self.augment.mixes and self.exclude_classes:
                way_out = "Drop --augment.mixup and --augment.cutmix."
                raise UserError("exclude_classes", self.exclude_classes, "none with mixed views", way_out)
            return self
        if self.augment != AugmentConfig():
            raise UserError(
                "augment",
                self.augment.model_dump(),
                "none for a student with a cache, since it sees the views of its cache",
                "Set the augmentation when the cache is made: distill cache --augment.pad …",
            )
        if self.data != self.cache.transfer_set:
            raise UserError(
                "data",
                self.data.model_dump(),
                f"the cache's transfer set, {self.cache.transfer_set.model_dump()}",
                "Drop the --data flags, or make a cache for these images.",
            )
        if self.views is not None and self.views > self.cache.views:
            way_out = "Lower --views, or make a cache with more."
            raise UserError("views", self.views, f"at most the {self.cache.views} of the cache", way_out)
        if self.cache.augment.mixes and self.exclude_classes:
            way_out = "Make a cache without mixup and cutmix for this student."
            raise UserError(
                "exclude_classes",
                self.exclude_classes,
                "none with a cache of mixed views, since they show the excluded classes too",
                way_out,
            )
        return self


TrainedConfig = Annotated[TeacherConfig | StudentConfig, Discriminator("stage")]


class TemperaturesProbe(Config):
    """NLL and ECE of the stored predictions at each temperature, and at the one that held-out data choose."""

    probe: Literal["temperatures"] = "temperatures"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """By which logits are divided, increasing."""


class PenultimateProbe(Config):
    """Penultimate activations on the plane through the templates of three classes (Müller et al. 2019, Fig. 1)."""

    probe: Literal["penultimate"] = "penultimate"
    triples: Annotated[tuple[tuple[NonNegative, NonNegative, NonNegative], ...], Field(min_length=1)]
    """Three classes each; measures without a number are of the first."""
    per_class: Count = 100
    """Training and held-out samples of each class that are shown."""


class InformationProbe(Config):
    """Mutual information of an image's index and a difference of logits, along training (Müller 2019, Fig. 6)."""

    probe: Literal["information"] = "information"
    classes: tuple[NonNegative, NonNegative]
    """Images of these two are taken, and the difference is of their logits."""
    per_class: Count = 300
    """Training images of each."""
    draws: Count = 5
    """Views of an image that its mean is taken over; one more is what is evaluated."""
    view_seed: Seed = 0
    """Seed of these views; their program is that of the network."""


class TranslationProbe(Config):
    """Quality of sentences that are found by beam search with logits divided by each temperature."""

    probe: Literal["translation"] = "translation"
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """By which logits are divided, increasing."""
    beam: Count = 4
    """Hypotheses that are kept."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.6
    """Exponent of Wu et al. (2016), eq. 14; 0 does not penalise."""
    sentences: Count = 1000
    """Of the test set, the first so many."""


class KnowledgeProbe(Config):
    """Every measure of dark knowledge and geometry, of training images and of held-out ones."""

    probe: Literal["knowledge"] = "knowledge"
    temperature: Positive = 1.0
    """Of the soft targets that are measured."""
    images: Count = 10_000
    """Of each split, at most so many."""
    teachers_only: bool = False
    """Leave students out, which an experiment may have in hundreds."""


class SnapshotsProbe(Config):
    """Accuracy, calibration and dark knowledge of the weights along training; nothing where none were kept."""

    probe: Literal["snapshots"] = "snapshots"
    bins: Count = 15
    """Bins of the calibration error."""


CalibrationMethod = Literal["temperature", "vector", "platt"]
"""temperature: logits / T; vector: a scale and a bias per class (both Guo 2017); platt: the same of the log-odds of
each class against the rest, a sigmoid each, normalised (Zadrozny & Elkan 2002)."""


class ScalingProbe(Config):
    """What becomes of calibration when a network's logits are scaled, by parameters fitted on held-out images."""

    probe: Literal["scaling"] = "scaling"
    methods: tuple[CalibrationMethod, ...] = ("temperature", "vector", "platt")
    """Which maps."""
    bins: Count = 15
    """Bins of the calibration error."""


class MemorisationProbe(Config):
    """Of a training set with wrong labels: what the network answers where they are wrong."""

    probe: Literal["memorisation"] = "memorisation"


ProbeConfig = Annotated[
    TemperaturesProbe
    | PenultimateProbe
    | InformationProbe
    | TranslationProbe
    | KnowledgeProbe
    | SnapshotsProbe
    | ScalingProbe
    | MemorisationProbe,
    Discriminator("probe"),
]
"""A measure that an experiment asks for beside those that every network gets."""


class AnalysisConfig(Config):
    """Measures of trained networks, from the predictions that each stored at the end of its training."""

    stage: Literal["analysis"] = "analysis"
    runs: tuple[TrainedConfig, ...]
    reference: TeacherConfig | None = None
    """Teacher with which a run that has no teacher of its own is compared (a control for agreement)."""
    independent: tuple[TeacherConfig, ...] = ()
    """Teachers of another seed: a student is compared also with the one that differs from its own teacher in
    nothing else (Stanton et al. 2021: fidelity to one's teacher, or likeness to any good network?)."""
    split: Literal["test", "held_out"] = "test"
    bins: Count = 15
    """Bins of the calibration error."""
    probes: tuple[ProbeConfig, ...] = ()
    """Measures of each run beside those of its predictions."""


class CalibrationConfig(Config):
    """A map of a trained network's logits, fitted on its held-out predictions, that makes it say how sure it is."""

    stage: Literal["calibration"] = "calibration"
    network: TrainedConfig
    method: CalibrationMethod = "temperature"
    """temperature: logits / T; vector: a scale and a bias per class (both Guo 2017); platt: the same of log-odds
    of a class against the rest, a sigmoid each, normalised (Zadrozny & Elkan 2002)."""


_MOST_IN_A_SWEEP = 10_000


class SweepConfig(Config):
    """One recipe with several strengths of smoothing, each with the same seeds, compared on held-out images."""

    stage: Literal["sweep"] = "sweep"
    teacher: TeacherConfig = TeacherConfig()
    """The recipe; its smoothing is replaced, and its seed is the first one."""
    smoothings: Annotated[tuple[Fraction, ...], Field(min_length=2)] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
    """Strengths of label smoothing."""
    seeds: Count = 3
    """Networks of each; those of one seed have the same initial weights and the same order of samples."""
    bins: Count = 15
    """Bins of the calibration error."""

    @model_validator(mode="after")
    def _comparable(self) -> SweepConfig:
        if (networks := len(self.smoothings) * self.seeds) > _MOST_IN_A_SWEEP:
            raise UserError("seeds", f"{networks:,} networks", f"at most {_MOST_IN_A_SWEEP:,}", "Lower --seeds.")
        if len(set(self.smoothings)) < len(self.smoothings):
            raise UserError("smoothings", self.smoothings, "each only once", "Name each once.")
        if self.teacher.labels.per_class:
            way_out = "Drop --labels.per-class."
            raise UserError("labels.per_class", self.teacher.labels.per_class, "none in a sweep", way_out)
        if self.teacher.data.held_out == 0:
            raise UserError("data.held_out", 0, "more than 0, since images choose", "Set --data.held-out 0.1.")
        self.networks()  # some strength or seed may be none that a network can have
        return self

    def networks(self) -> dict[tuple[float, int], TeacherConfig]:
        """(smoothing, seed) → the network's config."""
        first, labels = self.teacher.seed, self.teacher.labels
        # Without smoothing nothing asks where it goes or when.
        hard = LabelsConfig(confidence_penalty=labels.confidence_penalty)
        without = {"labels": hard, "smoothing_source": None}
        return {
            (smoothing, seed): self.teacher.replace(
                smoothing=smoothing, seed=seed, **({} if smoothing else without)
            )
            for smoothing in self.smoothings
            for seed in range(first, first + self.seeds)
        }


class ReportConfig(Config):
    """The figures, tables and verdicts of one experiment."""

    stage: Literal["report"] = "report"
    experiment: str
    """Name of the experiment: its file name."""
    source: str
    """sha256 of the files in experiments/, so that an edited figure is drawn again."""
    scale: Literal["smoke", "quick", "short", "paper"]
    data: str
    analyses: tuple[AnalysisConfig, ...]


StageConfig = Annotated[
    TeacherConfig | CacheConfig | StudentConfig | CalibrationConfig | AnalysisConfig | SweepConfig | ReportConfig,
    Discriminator("stage"),
]
_STAGE_CONFIG: TypeAdapter[StageConfig] = TypeAdapter(StageConfig)


def parse_stage(fields: dict[str, Any], record: Path | None = None) -> StageConfig:
    """Config of any stage from its JSON form, told apart by its field `stage`.

    Args:
        fields: as a record has them. Plug-ins that they name are not the user's word.
        record: the file that they are from.

    Raises:
        UserError: a field is unknown, missing or of the wrong type.
    """
    try:
        with trust.reading(record):
            return _STAGE_CONFIG.validate_python(fields)
    except ValidationError as error:
        raise invalid(error, "config") from error
