"""Define typed, frozen configs of everything that may change a number; all of them are hashed into keys."""

from distill.config.adopted import AdoptedConfig, AdoptFlags, Interpolation, PreprocessingConfig
from distill.config.base import Config, Count, Fraction, Kwargs, NonNegative, Positive, Seed, Share
from distill.config.data import AugmentConfig, DataConfig
from distill.config.data_sets import DATA_SETS
from distill.config.imports import ImportConfig, ImportFlags, LogitType, Mean, Values
from distill.config.loss import (
    IGNORED,
    SOFT_TERMS,
    TOWARDS,
    LabelsConfig,
    LossConfig,
    SmoothingConvention,
    SoftTerm,
    Towards,
)
from distill.config.network import NETWORKS, ModelConfig, OptimConfig, ScheduleConfig
from distill.config.probes import (
    CalibrationMethod,
    InformationProbe,
    KnowledgeProbe,
    MemorisationProbe,
    PenultimateProbe,
    ProbeConfig,
    ScalingProbe,
    SnapshotsProbe,
    TemperaturesProbe,
    TranslationProbe,
)
from distill.config.recipes import RECIPES, RecipeName, recipe_of
from distill.config.stages import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    EnsembleConfig,
    NamedTeacher,
    NetworkConfig,
    ReportConfig,
    Scale,
    StageConfig,
    StoredSplit,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
    parse_stage,
)
