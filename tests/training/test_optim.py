"""Optimisers, learning-rate curves in closed form, and the weight average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from distill.config import RECIPES, OptimConfig, ScheduleConfig
from distill.errors import UserError
from distill.models.alexnet import AlexNet
from distill.models.mlp import MLP
from distill.training.optim import build_ema, build_optimizer, build_schedule, last_layer
from tests.small import gaps

STEPS = 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 2, 4, 4, generator=generator)).square().sum().backward()
        optimizer.step()


def rates(config: ScheduleConfig, peak: float = 0.5) -> list[float]:
    """Learning rate of every update, and the one after the last."""
    optimizer = build_optimizer(network(), OptimConfig(lr=peak))
    schedule = build_schedule(optimizer, config, STEPS)
    values = [optimizer.param_groups[0]["lr"]]
    for t in range(1, config.epochs * STEPS + 1):
        schedule.step_update(t)
        values.append(optimizer.param_groups[0]["lr"])
    assert all(group["lr"] == values[-1] for group in optimizer.param_groups)
    return values


def test_cosine_in_closed_form():
    values = rates(ScheduleConfig(name="cosine", epochs=4, min_lr=0.1))
    expected = [0.05 + 0.45 * 0.5 * (1 + math.cos(math.pi * t / 40)) for t in range(41)]
    assert values == pytest.approx(expected)
    assert values[0] == 0.5
    assert values[-1] == pytest.approx(0.05)


def test_linear_in_closed_form():
    values = rates(ScheduleConfig(name="linear", epochs=4, min_lr=0.1))
    assert values == pytest.approx([0.5 - 0.45 * t / 40 for t in range(41)])


def test_constant():
    assert rates(ScheduleConfig(name="constant", epochs=2, min_lr=0.1)) == [0.5] * 21


def test_step_drops_at_exactly_its_epochs():
    values = rates(ScheduleConfig(name="step", epochs=4, decay_epochs=(3, 1.5), decay_rate=0.1))
    assert values == pytest.approx([0.5] * 15 + [0.05] * 15 + [0.005] * 11)


def test_the_recipe_of_the_cifar_benchmark_has_its_rates():
    values = rates(RECIPES["cifar240"].schedule, peak=0.05)
    # RepDistiller multiplies by 0.1 where its epoch, counted from 1, is above 150, 180 and 210.
    published = [0.05 * 0.1 ** sum(epoch > fall for fall in (150, 180, 210)) for epoch in range(1, 241)]
    assert values[:-1] == pytest.approx([rate for rate in published for _ in range(STEPS)])


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "step"])
def test_warm_up_is_linear_and_never_zero(name):
    decay = (3.0,) if name == "step" else ()
    values = rates(ScheduleConfig(name=name, epochs=4, warmup_epochs=1.2, min_lr=0.1, decay_epochs=decay))
    assert values[:13] == pytest.approx([0.5 * (t + 1) / 13 for t in range(13)])
    assert max(values) == values[12] == pytest.approx(0.5)
    end = {"constant": 0.5, "step": 0.05, "cosine": 0.05, "linear": 0.05}
    assert values[-1] == pytest.approx(end[name])
    if name == "cosine":
        assert values[13] == pytest.approx(0.05 + 0.225 * (1 + math.cos(math.pi / 28)))


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "step"])
def test_resume_gives_the_same_rates(name):
    decay = (2.0,) if name == "step" else ()
    config = ScheduleConfig(name=name, epochs=4, warmup_epochs=1, decay_epochs=decay)
    whole = rates(config)
    for start in (3, 10, 25, 39):
        first = build_optimizer(network(), OptimConfig(lr=0.5))
        build_schedule(first, config, STEPS).step_update(start)
        resumed = build_optimizer(network(), OptimConfig(lr=0.5))
        schedule = build_schedule(resumed, config, STEPS)
        resumed.load_state_dict(first.state_dict())
        for t in range(start, 41):
            schedule.step_update(t)
            assert resumed.param_groups[0]["lr"] == whole[t]
        # And with the schedule built after the state was loaded.
        schedule = build_schedule(resumed, config, STEPS)
        schedule.step_update(start)
        assert resumed.param_groups[0]["lr"] == whole[start]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"warmup_epochs": 4}, "schedule.warmup_epochs"),
        ({"name": "step"}, "schedule.decay_epochs"),
        ({"name": "step", "decay_epochs": (1, 4)}, "schedule.decay_epochs"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(fields, field):
    with pytest.raises(UserError) as caught:
        rates(ScheduleConfig(epochs=4, **fields))
    assert caught.value.field == field


def test_biases_and_norms_are_not_decayed():
    model = network()
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.01))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert found == {
        "0.weight": 0.01,
        "0.bias": 0,
        "1.weight": 0,
        "1.bias": 0,
        "4.weight": 0.01,
        "4.bias": 0,
    }


def test_all_weights_are_decayed_by_the_recipe_as_torch_does():
    model, other = network(), network()
    train(model, build_optimizer(model, RECIPES["cifar240"].optim), 3)
    train(other, torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4), 3)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    by_timms_name = build_optimizer(model, OptimConfig(weight_decay=1, kwargs={"filter_bias_and_bn": False}))
    assert {group["weight_decay"] for group in by_timms_name.param_groups} == {1}


def test_a_network_may_name_weights_that_are_not_decayed():
    model = AlexNet(10, (3, 24, 24))
    for decay_biases in (False, True):
        optimizer = build_optimizer(model, OptimConfig(weight_decay=0.04, decay_biases=decay_biases))
        decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
        names = {name for name, p in model.named_parameters() if id(p) in decayed and name.endswith("weight")}
        assert names == {"local3.weight", "local4.weight"}
        assert len(decayed) == (7 if decay_biases else 2)


@pytest.mark.parametrize(
    ("name", "nesterov"), [("momentum", False), ("Momentum", False), ("sgd", True), ("adamw", None)]
)
def test_optimisers_by_timms_name(name, nesterov):
    optimizer = build_optimizer(network(), OptimConfig(name=name, lr=0.3, momentum=0.8))
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.3
    assert group["fused"]
    if nesterov is not None:
        assert (group["momentum"], group["nesterov"]) == (0.8, nesterov)


def test_optimisers_without_a_fused_kernel_and_with_arguments():
    model = network()
    optimizer = build_optimizer(model, OptimConfig(name="lamb", lr=0.01, kwargs={"betas": [0.8, 0.9]}))
    assert list(optimizer.param_groups[0]["betas"]) == [0.8, 0.9]
    train(model, optimizer, 2)
    slow = build_optimizer(network(), OptimConfig(kwargs={"foreach": True, "dampening": 0.9}))
    assert not slow.param_groups[0]["fused"]
    assert slow.param_groups[0]["dampening"] == 0.9


@pytest.mark.parametrize(
    ("name", "kwargs", "field", "says"),
    [
        ("momentun", {}, "optim.name", "momentum"),
        ("zzzz", {}, "optim.name", "It knows"),
        ("lookahead_zzz_sgd", {}, "optim.name", "an optimiser that timm knows"),
        ("adahessian", {}, "optim.name", "no second derivatives"),
        ("AdaHessian", {}, "optim.name", "no second derivatives"),
        ("momentum", {"betas": [0.9, 0.9]}, "optim.kwargs", "has no betas"),
        ("adamw", {"beta": 1}, "optim.kwargs", "It takes: betas"),
        ("adamw", {"betas": [2, 0.9]}, "optim.kwargs", "beta"),
        ("adamw", {"lr": 1}, "optim.kwargs", "lr"),
    ],
)
def test_unknown_optimisers_and_arguments(name, kwargs, field, says):
    with pytest.raises(UserError) as caught:
        build_optimizer(network(), OptimConfig(name=name, kwargs=kwargs))
    assert caught.value.field == field
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["momentum", "sgd", "adamw"])
def test_fused_step_equals_the_plain_loop(name):
    weights = []
    for kwargs in ({}, {"foreach": False}):
        model = network()
        train(model, build_optimizer(model, OptimConfig(name=name, lr=1e-3, kwargs=kwargs)), 4)
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(weights[0], weights[1])


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
@pytest.mark.parametrize("name", ["momentum", "sgd", "adamw"])
def test_layers_without_a_gradient_in_some_steps(name):
    after = []
    for kwargs in ({}, {"fused": False}):
        torch.manual_seed(0)
        model = gaps(3, (2, 4, 4))
        optimizer = build_optimizer(model, OptimConfig(name=name, lr=1e-3, weight_decay=0.1, kwargs=kwargs))
        never = model.never.weight.clone()
        train(model, optimizer, 8)
        assert torch.equal(model.never.weight, never)
        after.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*after)


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
def test_a_first_step_that_float16_skips_leaves_no_momentum():
    model = network()
    optimizer = build_optimizer(model, OptimConfig(name="momentum", lr=0.1))
    optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.ones(())
    train(model, optimizer, 1)
    assert not any(state["momentum_buffer"].any() for state in optimizer.state.values())


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_state_is_laid_out_as_its_weights_when_it_is_loaded(name):
    """A run saved without channels_last may go on with it: fused kernels would mix up the momenta."""
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = network()
        optimizer = build_optimizer(model, OptimConfig(name=name, lr=1e-3))
        train(model, optimizer, 2)
        resumed = network().to(memory_format=layout)
        resumed.load_state_dict(model.state_dict())
        again = build_optimizer(resumed, OptimConfig(name=name, lr=1e-3))
        again.load_state_dict(optimizer.state_dict())
        train(resumed, again, 2)
        # The norm cancels the bias before it: its gradient is rounding noise, which Adam blows up.
        kept = [p.flatten() for name, p in resumed.named_parameters() if name != "0.bias"]
        weights.append(torch.cat(kept))
    torch.testing.assert_close(weights[0], weights[1])


def test_average_of_weights():
    model = nn.Linear(1, 1, bias=False)
    ema = build_ema(model, 0.5)
    expected = 0.0
    for step, weight in enumerate([1.0, 2.0, 5.0, 7.0], start=1):
        nn.init.constant_(model.weight, weight)
        ema.update(model, step=step)
        decay = min(0.5, 1 - (1 + max(0, step - 1)) ** (-2 / 3))
        expected = decay * expected + (1 - decay) * weight
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert decay == 0.5


def rate_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> float:
    (rate,) = [group["lr"] for group in optimizer.param_groups if any(p is parameter for p in group["params"])]
    return rate


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "step"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_last_layer_has_its_share_of_every_rate(name, weight_decay):
    decay = (2.0,) if name == "step" else ()
    config = ScheduleConfig(name=name, epochs=4, warmup_epochs=1.2, min_lr=0.1, decay_epochs=decay)
    model = network()
    optimizer = build_optimizer(model, OptimConfig(lr=0.5, head_lr=0.1, weight_decay=weight_decay))
    schedule = build_schedule(optimizer, config, STEPS)
    for t, expected in enumerate(rates(config)):
        schedule.step_update(t)
        found = {name: rate_of(optimizer, p) for name, p in model.named_parameters()}
        last = {name for name in found if name.startswith("4.")}
        assert {found[name] for name in found if name not in last} == {expected}
        assert [found[name] for name in last] == pytest.approx([0.1 * expected] * 2)
        assert optimizer.param_groups[0]["lr"] == expected, "the rate that is shown"


def test_what_is_decayed_stays_so_in_groups_of_the_last_layer():
    model = network()
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.01, head_lr=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decayed = [name for name, p in model.named_parameters() if decay[id(p)]]
    assert decayed == ["0.weight", "4.weight"]
    assert len(decay) == len(list(model.parameters()))


def test_a_full_share_changes_no_group():
    assert OptimConfig().head_lr == 1
    for weight_decay in (0.0, 0.01):
        optimizer = build_optimizer(network(), OptimConfig(weight_decay=weight_decay, head_lr=1))
        assert len(optimizer.param_groups) == (2 if weight_decay else 1)
        assert all("lr_scale" not in group for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_a_step_moves_the_last_layer_by_its_share(name):
    moved = []
    for share in (1, 0.1):
        model = network()
        optimizer = build_optimizer(model, OptimConfig(name=name, lr=1e-3, head_lr=share))
        build_schedule(optimizer, ScheduleConfig(name="constant", epochs=1), STEPS)
        before = [p.detach().clone() for p in model.parameters()]
        train(model, optimizer, 1)
        moved.append([p.detach() - old for p, old in zip(model.parameters(), before, strict=True)])
    *others, weight, bias = zip(*moved, strict=True)
    assert all(torch.equal(whole, share) for whole, share in others)
    for whole, share in (weight, bias):
        assert whole.abs().max() > 5e-4
        torch.testing.assert_close(share, 0.1 * whole, rtol=1e-3, atol=1e-6)


def test_a_share_is_kept_when_the_state_is_loaded():
    config = ScheduleConfig(name="linear", epochs=2)
    models = [network(), network()]
    optimizers = [build_optimizer(model, OptimConfig(lr=1e-3, head_lr=0.1)) for model in models]
    schedules = [build_schedule(optimizer, config, STEPS) for optimizer in optimizers]
    schedules[0].step_update(5)
    train(models[0], optimizers[0], 3)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    # Also with a schedule that is built anew from the loaded state.
    for schedule in (schedules[1], build_schedule(optimizers[1], config, STEPS)):
        schedule.step_update(15)
        assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.25e-3)
        assert rate_of(optimizers[1], models[1][4].weight) == pytest.approx(0.25e-4)
    schedules[0].step_update(15)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 3)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_share_multiplies_that_of_timms_layer_decay():
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=12, num_heads=1, num_classes=3)
    plain, scaled = (
        build_optimizer(model, OptimConfig(head_lr=share, kwargs={"layer_decay": 0.5})) for share in (1, 0.1)
    )
    last = {id(p) for p in model.get_classifier().parameters()}

    def scales(optimizer):
        return {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}

    before, after = scales(plain), scales(scaled)
    assert after == {p: (0.1 if p in last else 1) * scale for p, scale in before.items()}


class _Named(nn.Module):
    """Its classifier is not its last linear layer."""

    def __init__(self):
        super().__init__()
        self.head, self.extra = nn.Linear(2, 3), nn.Linear(2, 2)


class _Asked(_Named):
    def get_classifier(self):
        return self.extra, self.head


def test_which_layer_is_the_last():
    named, asked, plain, own = _Named(), _Asked(), network(), MLP(3, (1, 2, 2), widths=[4])
    for model, expected in (
        (named, [*named.head.parameters()]),
        (asked, [*asked.extra.parameters(), *asked.head.parameters()]),
        (plain, [*plain[4].parameters()]),
        (own, [*own.head.parameters()]),
    ):
        found = last_layer(model, 0.1)
        assert [id(p) for p in found] == [id(p) for p in expected]


def test_a_network_without_a_last_layer_is_refused():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten())
    build_optimizer(model, OptimConfig())
    with pytest.raises(UserError) as caught:
        build_optimizer(model, OptimConfig(head_lr=0.1))
    assert caught.value.field == "optim.head_lr"
    assert "\n" not in str(caught.value)
