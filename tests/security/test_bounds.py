"""Numbers of somebody else's config that would fill the memory are refused before any of it is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill.config import AugmentConfig, parse_stage
from distill.data.views.program import ProgramViews
from distill.errors import UserError

pytestmark = pytest.mark.fault("bombs and numbers without an end")

CROP = "torchvision.transforms.v2:RandomResizedCrop"
TIMM = "timm.data:create_transform"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"augment": {"pad": 24_000}}, "augment.pad"),
        ({"snapshots": 10**9}, "snapshots"),
        ({"schedule": {"epochs": 10**20}}, "schedule.epochs"),
        ({"schedule": {"batch_size": 10**12}}, "schedule.batch_size"),
        ({"stage": "cache", "views": 10**12}, "views"),
        ({"stage": "analysis", "runs": [], "bins": 10**9}, "bins"),
        ({"stage": "analysis", "runs": [], "probes": [{"probe": "scaling", "bins": 10**9}]}, "bins"),
    ],
)
def test_numbers_of_a_config_have_an_end(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match="less than or equal to") as caught:
        parse_stage({"stage": "teacher", **fields})
    assert caught.value.field.endswith(field)


@pytest.mark.parametrize(
    ("program", "kwargs"),
    [
        (CROP, {"size": 24_000}),
        (CROP, {"size": [8, 24_000]}),
        (TIMM, {"input_size": [3, 24_000, 24_000]}),
        (TIMM, {"input_size": 8, "crop_pct": 1e-4}),
        (TIMM, {"input_size": 8, "is_training": True, "train_crop_mode": "rkrc", "scale": [1, 200]}),
        (TIMM, {"input_size": 8, "is_training": True, "auto_augment": "rand-m9-n100000"}),
        (TIMM, {"input_size": 8, "is_training": True, "re_prob": 1, "re_count": 10**9}),
    ],
)
def test_views_that_need_no_trust_are_not_rendered_far_larger_than_their_images(
    program: str, kwargs: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"no number above 300, and no enlargement above 16 times") as caught:
        ProgramViews(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), AugmentConfig(program=program, kwargs=kwargs), 0)
    assert caught.value.field == "augment.kwargs"
