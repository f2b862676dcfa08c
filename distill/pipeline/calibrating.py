"""Fit the calibration of a network that is in the store."""

from __future__ import annotations

from distill.config import CalibrationConfig, CalibrationMethod
from distill.errors import UserError
from distill.pipeline.graph import run
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import network_config


def calibrated(network: Artifact, method: CalibrationMethod, store: ArtifactStore, runtime: Runtime) -> Artifact:
    """Return the calibration of a network, and fit it first if it is not in the store.

    Raises:
        UserError: the artifact is no network of this store, or it has no held-out predictions.
    """
    config = network_config(network)
    store.refuse_other(network, "artifact")
    if store.find(config) is None or key(config) != network.record.key:
        way_out = "Set `store` to its store; one of an older version must be trained again."
        raise UserError("artifact", str(network.path), f"a network of the store {store.root}", way_out)
    return run(CalibrationConfig(network=config, method=method), store, runtime)
