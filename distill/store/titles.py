"""Choose the words of an artifact's title, a short name for people; artifacts are told apart by their keys."""

from __future__ import annotations

from collections.abc import Sequence

from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LabelsConfig,
    LossConfig,
    ReportConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)


def of_teacher(config: TeacherConfig) -> Sequence[str]:
    """Name a teacher by its data, network, smoothing and seed."""
    return [_data(config.data), _network(config), _smoothing(config.loss), f"s{config.seed}"]


def of_cache(config: CacheConfig) -> Sequence[str]:
    """Name a cache by its transfer set, its teacher and its views."""
    parts = [_data(config.transfer_set), "of", _teacher(config), f"v{config.views}"]
    parts += [f"part{config.snapshot}"] if config.snapshot is not None else []
    return parts + ([f"top{config.top_k}"] if config.top_k else [])


def of_student(config: StudentConfig) -> Sequence[str]:
    """Name a student by its data, network, targets and seed."""
    parts = [_data(config.data), _network(config), _targets(config), f"s{config.seed}"]
    return parts + [f"without{cls}" for cls in config.exclude_classes]


def of_calibration(config: CalibrationConfig) -> Sequence[str]:
    """Name a calibration by its method and its network."""
    network = config.network
    return [
        config.method,
        "of",
        *(of_teacher(network) if isinstance(network, TeacherConfig) else of_student(network)),
    ]


def of_analysis(config: AnalysisConfig) -> Sequence[str]:
    """Name an analysis by its split and the number of its networks."""
    return [config.split, f"{len(config.runs)}runs"]


def of_sweep(config: SweepConfig) -> Sequence[str]:
    """Name a sweep by its recipe and its size."""
    recipe = [_data(config.teacher.data), _network(config.teacher)]
    return [*recipe, f"{len(config.smoothings)}smoothings", f"{config.seeds}seeds"]


def of_report(config: ReportConfig) -> Sequence[str]:
    """Name a report by its experiment, data and scale."""
    return [config.experiment, config.data, config.scale]


def _teacher(config: CacheConfig) -> str:
    match config.teacher:
        case TeacherConfig() as teacher:
            return f"{_network(teacher)}-{_smoothing(teacher.loss)}-s{teacher.seed}"
        case EnsembleConfig() as ensemble:
            return f"{len(ensemble.members)}-{_network(ensemble.members[0])}"
        case ImportConfig() as imported:
            return "-".join(["import", *([imported.teacher] if imported.teacher else [])])


def _network(config: TeacherConfig | StudentConfig) -> str:
    widths = config.model.kwargs.get("widths", "")
    return config.model.name + ("x".join(map(str, widths)) if isinstance(widths, list | tuple) else "")


def _targets(config: StudentConfig) -> str:
    loss = config.loss
    if config.cache is None:
        return _smoothing(loss)
    soft = "" if loss.soft == LossConfig().soft else f"{loss.soft}-"
    arguments = "".join(f"-{name}{value:g}" for name, value in loss.kwargs.items())
    teacher, part = config.cache.teacher, config.cache.snapshot
    source = _smoothing(teacher.loss) if isinstance(teacher, TeacherConfig) else teacher.stage
    early = "" if part is None else f"-part{part}"
    return f"of-{source}{early}-{soft}T{loss.temperature:g}{arguments}-a{loss.alpha:g}"


def _data(config: DataConfig) -> str:
    noise = f"-{config.noise}{config.label_noise:g}" if config.label_noise else ""
    return f"{config.name}{noise}{'-balanced' if config.balanced else ''}"


def _smoothing(loss: LossConfig) -> str:
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
