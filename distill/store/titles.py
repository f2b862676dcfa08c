"""Choose the words of an artifact's title, a short name for people; artifacts are told apart by their keys."""

from __future__ import annotations

from collections.abc import Sequence

from distill.config import (
    AdoptedConfig,
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LabelsConfig,
    LossConfig,
    NetworkConfig,
    ReportConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.config.data_sets import short_name


def of_teacher(config: TeacherConfig) -> Sequence[str]:
    """Name a teacher by its data, network, smoothing and seed."""
    return [data(config.data), network(config), smoothing(config.loss), *_begun(config), f"s{config.seed}"]


def of_adopted(config: AdoptedConfig) -> Sequence[str]:
    """Name an adopted network by its data and its architecture."""
    return [data(config.data), network(config), "weights" if config.only_weights else "adopted"]


def of_cache(config: CacheConfig) -> Sequence[str]:
    """Name a cache by its transfer set, its teacher and its views."""
    parts = [data(config.transfer_set), "of", teacher(config), f"v{config.views}"]
    parts += [f"part{config.snapshot}"] if config.snapshot is not None else []
    return parts + ([f"top{config.top_k}"] if config.top_k else [])


def of_student(config: StudentConfig) -> Sequence[str]:
    """Name a student by its data, network, targets and seed."""
    parts = [data(config.data), network(config), _targets(config), *_begun(config), f"s{config.seed}"]
    return parts + [f"without{cls}" for cls in config.exclude_classes]


def _begun(config: TeacherConfig | StudentConfig) -> Sequence[str]:
    """Name the stage of the network whose weights a training begins with; nothing where they are drawn."""
    return [f"from-{config.init.stage}"] if config.init else []


def of_calibration(config: CalibrationConfig) -> Sequence[str]:
    """Name a calibration by its method and its network."""
    return [config.method, "of", *of_network(config.network)]


def of_network(config: NetworkConfig) -> Sequence[str]:
    """Name a network that was trained here, or adopted."""
    match config:
        case TeacherConfig():
            return of_teacher(config)
        case AdoptedConfig():
            return of_adopted(config)
        case StudentConfig():
            return of_student(config)


def of_analysis(config: AnalysisConfig) -> Sequence[str]:
    """Name an analysis by its split and the number of its networks."""
    return [config.split, f"{len(config.runs)}runs"]


def of_sweep(config: SweepConfig) -> Sequence[str]:
    """Name a sweep by its recipe and its size."""
    recipe = [data(config.teacher.data), network(config.teacher), *_begun(config.teacher)]
    return [*recipe, f"{len(config.smoothings)}smoothings", f"{config.seeds}seeds"]


def of_report(config: ReportConfig) -> Sequence[str]:
    """Name a report by its experiment, data and scale."""
    return [config.experiment, short_name(config.data), config.scale]


def teacher(config: CacheConfig) -> str:
    """Name the teacher of a cache, without its data."""
    match config.teacher:
        case TeacherConfig() as trained:
            return f"{network(trained)}-{smoothing(trained.loss)}-s{trained.seed}"
        case AdoptedConfig() as adopted:
            return f"{network(adopted)}-adopted"
        case EnsembleConfig() as ensemble:
            return f"{len(ensemble.members)}-{network(ensemble.members[0])}"
        case ImportConfig() as imported:
            return "-".join(["import", *([imported.teacher] if imported.teacher else [])])


def network(config: NetworkConfig) -> str:
    """Name the architecture of a network."""
    widths = config.model.kwargs.get("widths", "")
    return config.model.name + ("x".join(map(str, widths)) if isinstance(widths, list | tuple) else "")


def _targets(config: StudentConfig) -> str:
    loss = config.loss
    if config.cache is None:
        return smoothing(loss)
    soft = "" if loss.soft == LossConfig().soft else f"{loss.soft}-"
    arguments = "".join(f"-{name}{value:g}" for name, value in loss.kwargs.items())
    gamma = loss.equivalent_smoothing
    softened = f"T{loss.temperature:g}" if gamma is None else f"gamma{gamma:g}"
    taught_by, part = config.cache.teacher, config.cache.snapshot
    source = smoothing(taught_by.loss) if isinstance(taught_by, TeacherConfig) else taught_by.stage
    early = "" if part is None else f"-part{part}"
    return f"of-{source}{early}-{soft}{softened}{arguments}-a{loss.alpha:g}"


def data(config: DataConfig) -> str:
    """Name a data set, its wrong labels and its sampling; an image folder by its own name, not its path."""
    noise = f"-{config.noise}{config.label_noise:g}" if config.label_noise else ""
    return f"{config.short_name}{noise}{'-balanced' if config.balanced else ''}"


def smoothing(loss: LossConfig) -> str:
    """Name the smoothing of labels, with all that is unusual about it."""
    convention = {"uniform": "ls", "others": "others", "maxsup": "maxsup"}[loss.smoothing_convention]
    labels, usual = loss.labels, LabelsConfig()
    parts = ["perclass" if labels.per_class else f"{convention if loss.smoothing else 'ls'}{loss.smoothing:.2f}"]
    parts += [
        getattr(labels, name)
        for name in ("towards", "schedule", "by_sample")
        if getattr(labels, name) != getattr(usual, name)
    ]
    parts += ["weighted"] if loss.class_weights else []
    parts += [f"penalty{labels.confidence_penalty:g}"] if labels.confidence_penalty else []
    return "-".join(parts)
