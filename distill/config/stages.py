"""Define the configs of all stages: together they are the graph teacher → cache → student → analysis → report."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, TypeAdapter, ValidationError, model_validator

from distill.config.adopted import AdoptedConfig
from distill.config.base import Bins, Config, Count, Fraction, NonNegative, Seed, invalid
from distill.config.data import AugmentConfig, DataConfig
from distill.config.imports import ImportConfig, LogitType, Mean
from distill.config.loss import LabelsConfig, LossConfig
from distill.config.network import ModelConfig, OptimConfig, ScheduleConfig
from distill.config.probes import CalibrationMethod, ProbeConfig
from distill.errors import UserError

_MOST_IN_A_ROW = 16


class _Training(Config):
    """Define the fields that teacher and student configs share."""

    loss: LossConfig
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: Fraction | None = None
    """Decay of an exponential moving average of the weights; the average is what is kept."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Autocast dtype of forward and backward."""
    snapshots: Annotated[int, Field(ge=0, le=10**4)] = 0
    """Keep the initial weights and those after each of this many equal parts of training, for measures along it."""
    seed: Seed = 0
    """Seed of initial weights, order, views and dropout."""
    smoothing_source: NamedTeacher | None = None
    """The trained network whose held-out predictions say which classes are confused, or alike."""

    init: BegunFrom | None = None
    """The network whose weights this training begins with; where its classes are others, the last layer is new."""

    @property
    def shown(self) -> AugmentConfig:
        """Return the view program whose views the network is shown."""
        return self.augment

    @model_validator(mode="after")
    def _not_too_many_in_a_row(self) -> Self:
        if (count := _in_a_row(self)) > _MOST_IN_A_ROW:
            field = "init" if self.init else "smoothing_source"
            expected = f"at most {_MOST_IN_A_ROW} networks of which each needs the next"
            raise UserError(field, f"{count} in a row", expected, "Name one that needs fewer.")
        return self

    @model_validator(mode="after")
    def _balanced_once(self) -> Self:
        if self.data.balanced and self.shown.mixes:
            expected = "false with mixed views, whose partners are drawn from all samples alike"
            way_out = "Drop `data.balanced`, or mixup and cutmix."
            raise UserError("data.balanced", True, expected, way_out)
        if self.data.balanced and self.loss.class_weights == "balanced":
            expected = "false beside `loss.class_weights=balanced`, which corrects the same imbalance"
            raise UserError("data.balanced", True, expected, "Drop one of them: both would correct it twice.")
        return self

    def with_loss(self, **changes: Any) -> Self:
        """Return a copy of this config with other fields of `loss`."""
        return self.replace(loss=self.loss.replace(**changes))


def _in_a_row(config: Config) -> int:
    """Count the networks below a config of which each is needed by the one before."""
    needed = [getattr(config, name, None) for name in ("smoothing_source", "init")]
    needed += getattr(getattr(config, "cache", None), "teachers", ())
    return max((1 + _in_a_row(each) for each in needed if each is not None), default=0)


class TeacherConfig(_Training):
    """Describe a classifier that is trained from labels, with or without label smoothing."""

    stage: Literal["teacher"] = "teacher"
    loss: LossConfig = LossConfig(alpha=0)

    @model_validator(mode="after")
    def _taught_by_labels(self) -> TeacherConfig:
        if self.loss.alpha != 0:
            expected = "0 for a teacher, which learns from labels"
            raise UserError("loss.alpha", self.loss.alpha, expected, "Set `loss.alpha=0`.")
        self.loss.refuse_soft_term("Drop it: a student has soft targets.")
        self.loss.labels.check_source(self.smoothing_source)
        return self


def _answers(network: Config) -> Config:
    """Refuse a network of which nothing but the weights is known."""
    if isinstance(network, AdoptedConfig):
        network.refuse_only_weights()
    return network


NamedTeacher = Annotated[TeacherConfig | AdoptedConfig, Discriminator("stage"), AfterValidator(_answers)]
"""A network that may teach: trained here, or adopted."""


class EnsembleConfig(Config):
    """Describe several teachers whose answers are averaged into one answer."""

    stage: Literal["ensemble"] = "ensemble"
    members: Annotated[tuple[NamedTeacher, ...], Field(min_length=2)]
    mean: Mean = "probabilities"
    """What is averaged; the logits of mean probabilities are their logarithms."""

    @model_validator(mode="after")
    def _different_members(self) -> EnsembleConfig:
        dumps = {json.dumps(member.model_dump(mode="json"), sort_keys=True) for member in self.members}
        if len(dumps) < len(self.members):
            value = f"{len(self.members)} teachers, some of them the same"
            raise UserError("teacher", value, "teachers that differ", "Name each once.")
        return self


def _each_once(data: DataConfig) -> DataConfig:
    """Return the data of a cache, which holds each image once, however often a training draws it."""
    return data.replace(balanced=False) if data.balanced else data


class CacheConfig(Config):
    """Describe a cache: which teacher's logits it holds, on which transfer set and views."""

    # The config has no temperature and no alpha, so that a sweep over them shares one cache.
    stage: Literal["cache"] = "cache"
    teacher: Annotated[
        TeacherConfig | AdoptedConfig | EnsembleConfig | ImportConfig,
        Discriminator("stage"),
        AfterValidator(_answers),
    ] = Field(default_factory=TeacherConfig)  # a teacher may begin with a student, which is defined below
    snapshot: NonNegative | None = None
    """For a teacher that kept snapshots: use its weights after this many parts of its training, 0 for the initial
    ones; None takes the final weights."""
    transfer_set: Annotated[DataConfig, AfterValidator(_each_once)] = DataConfig()
    """The inputs that students will see: the training split of this data set."""
    augment: AugmentConfig = AugmentConfig()
    """View program of the cached images; students see exactly these views."""
    views: Count = 1
    """Views per image; epoch e reads view e mod views."""
    view_seed: Seed = 0
    """Seed of the views."""
    dtype: LogitType = "float16"
    """The dtype in which a logit is stored."""
    top_k: Count | None = None
    """Store only this many of the largest logits and the log-sum-exp of the rest; None stores all of them."""

    @property
    def teachers(self) -> tuple[TeacherConfig | AdoptedConfig, ...]:
        """Return the networks whose logits the cache holds; none when the logits were imported."""
        match self.teacher:
            case TeacherConfig() | AdoptedConfig():
                return (self.teacher,)
            case EnsembleConfig():
                return self.teacher.members
            case ImportConfig():
                return ()

    @model_validator(mode="after")
    def _one_image_one_view(self) -> CacheConfig:
        if self.views > 1 and self.augment == AugmentConfig():
            expected = "1 without augmentation, since all views are then the same image"
            way_out = "Set `augment.pad`, `augment.flip` or `augment.program`, or drop `views`."
            raise UserError("views", self.views, expected, way_out)
        return self

    @model_validator(mode="after")
    def _kept_snapshot(self) -> CacheConfig:
        kept = self.teacher.snapshots if isinstance(self.teacher, TeacherConfig) else 0
        if self.snapshot is not None and not (kept and self.snapshot <= kept):
            expected = f"0 to {kept} for its teacher" if kept else "none, since its teacher keeps none"
            way_out = "Train a teacher that keeps more: `distill teacher … --snapshots N`."
            raise UserError("snapshot", self.snapshot, expected, way_out)
        return self


class StudentConfig(_Training):
    """Describe a network that learns from a cache of soft targets, or from labels alone (`cache` None)."""

    stage: Literal["student"] = "student"
    cache: CacheConfig | None = None
    """The cache of the soft targets, and with them the views."""
    views: Count | None = None
    """Read only this many views of the cache, from the first on: epoch e reads view e mod views; None reads all."""
    loss: LossConfig = LossConfig()
    exclude_classes: tuple[NonNegative, ...] = ()
    """Classes left out of the transfer set: the student never sees them (Hinton et al. 2015, section 3)."""

    @property
    def shown(self) -> AugmentConfig:
        """Return the view program whose views the network is shown: that of its cache, if it has one."""
        return self.cache.augment if self.cache else self.augment

    @model_validator(mode="before")
    @classmethod
    def _data_of_its_cache(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("cache"), CacheConfig):
            return {"data": values["cache"].transfer_set, **values}
        return values

    @model_validator(mode="after")
    def _fits_its_cache(self) -> StudentConfig:
        self.loss.labels.check_source(self.smoothing_source)
        if self.cache is None:
            self._check_alone()
            return self
        if self.loss.alpha == 0:
            self.loss.refuse_soft_term("Raise `loss.alpha`, or drop it.")
        if self.augment != AugmentConfig():
            expected = "none for a student with a cache, since it sees the views of its cache"
            raise UserError("augment", self.augment.model_dump(), expected, "Set it for the cache.")
        if _each_once(self.data) != self.cache.transfer_set:
            expected = f"the cache's transfer set, {self.cache.transfer_set.model_dump()}"
            way_out = "Drop it, or make a cache for these images."
            raise UserError("data", self.data.model_dump(), expected, way_out)
        if self.views is not None and self.views > self.cache.views:
            way_out = "Lower `views`, or make a cache with more."
            raise UserError("views", self.views, f"at most the {self.cache.views} of the cache", way_out)
        if self.cache.augment.mixes and self.loss.equivalent_smoothing is not None:
            expected = "none with a cache of mixed views, whose labels are mixed too"
            way_out = "Set `loss.temperature` instead, or make a cache without mixup and cutmix."
            raise UserError("loss.equivalent_smoothing", self.loss.equivalent_smoothing, expected, way_out)
        if self.cache.augment.mixes and self.exclude_classes:
            expected = "none with a cache of mixed views, since they show the excluded classes too"
            way_out = "Make a cache without mixup and cutmix for this student."
            raise UserError("exclude_classes", self.exclude_classes, expected, way_out)
        return self

    def _check_alone(self) -> None:
        """Raise a UserError if a student without a cache has settings that need one, or that exclude each other."""
        if self.loss.alpha != 0:
            expected = "0 for a student without a cache, since there are no soft targets"
            raise UserError("loss.alpha", self.loss.alpha, expected, "Give a `cache`, or set `loss.alpha=0`.")
        self.loss.refuse_soft_term("Give a `cache`, or drop it.")
        if self.views is not None:
            way_out = "Drop `views`; without a cache every epoch shows a new view."
            raise UserError("views", self.views, "None for a student without a cache", way_out)
        if self.augment.mixes and self.exclude_classes:
            way_out = "Drop `augment.mixup` and `augment.cutmix`."
            raise UserError("exclude_classes", self.exclude_classes, "none with mixed views", way_out)


BegunFrom = Annotated[TeacherConfig | AdoptedConfig | StudentConfig, Discriminator("stage")]
"""A network whose weights are stored."""
NetworkConfig = Annotated[BegunFrom, AfterValidator(_answers)]
"""A network whose weights and predictions are stored."""
for _kind in (TeacherConfig, CacheConfig, StudentConfig):  # each names one that is defined after it
    _kind.model_rebuild()


StoredSplit = Literal["test", "held_out"]
"""A split of which every network stores predictions."""


class AnalysisConfig(Config):
    """Ask for measures of trained networks, from the predictions that each stored at the end of its training."""

    stage: Literal["analysis"] = "analysis"
    runs: tuple[NetworkConfig, ...]
    reference: NamedTeacher | None = None
    """Teacher with which a run that has no teacher of its own is compared (a control for agreement)."""
    independent: tuple[TeacherConfig, ...] = ()
    """Teachers of another seed: a student is also compared with the one that differs from its own teacher in
    nothing else (Stanton et al. 2021: fidelity to one's teacher, or likeness to any good network?)."""
    split: StoredSplit = "test"
    bins: Bins = 15
    """Bins of the calibration error."""
    probes: tuple[ProbeConfig, ...] = ()
    """Measures of each run beside those of its predictions."""


class CalibrationConfig(Config):
    """Ask for a map of a network's logits, fitted on held-out predictions, that makes its confidences right."""

    stage: Literal["calibration"] = "calibration"
    network: NetworkConfig
    method: CalibrationMethod = "temperature"
    """Method of calibration. temperature: logits / T; vector: a scale and a bias per class (both Guo 2017); platt:
    a scale and a bias of the log-odds of a class against the rest, one sigmoid each, normalised (Zadrozny & Elkan
    2002)."""


_MOST_IN_A_SWEEP = 10_000


class SweepConfig(Config):
    """Describe networks that differ only in label smoothing and seed, to be compared on held-out images."""

    stage: Literal["sweep"] = "sweep"
    teacher: TeacherConfig = TeacherConfig()
    """The recipe; its smoothing is replaced, and its seed is the first one."""
    smoothings: Annotated[tuple[Fraction, ...], Field(min_length=2)] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
    """Strengths of label smoothing, such as 0 0.1 0.2."""
    seeds: Count = 3
    """Networks per strength; those of one seed share the initial weights and the order of samples."""
    bins: Bins = 15
    """Bins of the calibration error."""

    @model_validator(mode="after")
    def _comparable(self) -> SweepConfig:
        if (networks := len(self.smoothings) * self.seeds) > _MOST_IN_A_SWEEP:
            raise UserError("seeds", f"{networks:,} networks", f"at most {_MOST_IN_A_SWEEP:,}", "Lower `seeds`.")
        if len(set(self.smoothings)) < len(self.smoothings):
            raise UserError("smoothings", self.smoothings, "each only once", "Name each once.")
        if per_class := self.teacher.loss.labels.per_class:
            way_out = "Drop `loss.labels.per_class`."
            raise UserError("loss.labels.per_class", per_class, "none in a sweep", way_out)
        if self.teacher.data.held_out == 0:
            raise UserError("data.held_out", 0, "more than 0, since images choose", "Set `data.held_out=0.1`.")
        self.networks()  # refuse a strength or a seed that no network can have
        return self

    def networks(self) -> dict[tuple[float, int], TeacherConfig]:
        """Return the config of each network: (smoothing, seed) → config."""
        recipe, first = self.teacher, self.teacher.seed
        # Without smoothing, a config must not say where smoothing goes or when.
        penalty = LabelsConfig(confidence_penalty=recipe.loss.labels.confidence_penalty)
        hard = recipe.replace(loss=recipe.loss.replace(smoothing=0, labels=penalty), smoothing_source=None)
        return {
            (smoothing, seed): (recipe.with_loss(smoothing=smoothing) if smoothing else hard).replace(seed=seed)
            for smoothing in self.smoothings
            for seed in range(first, first + self.seeds)
        }


Scale = Literal["smoke", "quick", "short", "paper"]
"""Size of an experiment: seconds, minutes on two cores, one GPU, and the published networks and schedules."""


class ReportConfig(Config):
    """Ask for the figures, tables and verdicts of one experiment."""

    stage: Literal["report"] = "report"
    experiment: str
    """Name of the experiment: its file name."""
    source: str
    """sha256 of the files of the experiment and of what it imports, so that an edited figure is drawn again."""
    scale: Scale
    data: str
    analyses: tuple[AnalysisConfig, ...]


StageConfig = Annotated[
    TeacherConfig
    | AdoptedConfig
    | CacheConfig
    | StudentConfig
    | CalibrationConfig
    | AnalysisConfig
    | SweepConfig
    | ReportConfig,
    Discriminator("stage"),
]


_STAGE_CONFIG: TypeAdapter[StageConfig] = TypeAdapter(StageConfig)


def parse_stage(fields: dict[str, Any]) -> StageConfig:
    """Return the config of any stage from its JSON form; the field `stage` says of which stage.

    Raises:
        UserError: a field is unknown, missing or of the wrong type.
    """
    try:
        return _STAGE_CONFIG.validate_python(fields)
    except ValidationError as error:
        raise invalid(error, "", "Its stage and fields must be those of a config of this version.") from error
