"""Build timm's optimiser, learning-rate schedule and moving average of weights from a config."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from distill.config import OptimConfig, ScheduleConfig
from distill.errors import UserError
from distill.system.libraries import import_library

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler
    from timm.utils.model_ema import ModelEmaV3

_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_FUSED_DEVICES = ("cpu", "cuda")


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Build the optimiser of a model; what `model.no_weight_decay()` names gets no weight decay.

    Neither do biases and norms, unless `decay_biases` is set.

    Where `head_lr` is not 1, the parameters of the last layer (`last_layer`) are in groups of their own, after all
    other groups, with timm's `lr_scale`. A schedule multiplies the rate of a group by its `lr_scale`; without a
    schedule it has no effect.

    Raises:
        UserError: timm does not know the optimiser, the optimiser needs second derivatives or does not take one of
            the arguments, or no layer is the last one.
    """
    optim = import_library("timm.optim")
    names = optim.list_optimizers()
    if config.name.lower() not in names:
        close = get_close_matches(config.name.lower(), names, n=5) or names
        way_out = f"{'Close to it' if close is not names else 'It knows'}: {', '.join(close)}."
        raise UserError("optim.name", config.name, "an optimiser that timm knows", way_out)
    if optim.get_optimizer_info(config.name.lower()).second_order:
        expected = "an optimiser that needs no second derivatives, which training does not compute"
        raise UserError("optim.name", config.name, expected, "Set `optim.name=adamw`, or another one.")
    try:
        kind = optim.get_optimizer_class(config.name, bind_defaults=False)
        _check_arguments(kind, optim.create_optimizer_v2, config)
        optimizer = optim.create_optimizer_v2(
            model,
            opt=config.name,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            **_fastest(kind, model, config.kwargs),
            **{"filter_bias_and_bn": not config.decay_biases, **config.kwargs},
        )
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        way_out = f"It says: {str(error).strip().splitlines()[0]}."
        raise UserError("optim.kwargs", config.kwargs, f"arguments of {config.name}", way_out) from error
    if config.head_lr != 1:
        _set_apart(optimizer, last_layer(model, config.head_lr), config.head_lr)
    _start_momentum(optimizer)
    optimizer.register_load_state_dict_post_hook(_match_layout)
    return optimizer


def _start_momentum(optimizer: Optimizer) -> None:
    """Give every parameter of a fused SGD its momentum, which is zero before the first gradient."""
    # torch makes all of them at the first step, and fails where a parameter gets its first gradient later. Where
    # float16 skips this step, it leaves them uninitialised.
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def last_layer(model: nn.Module, head_lr: float) -> list[nn.Parameter]:
    """Return the parameters of the layer that gives the logits.

    The network names this layer by timm's `get_classifier()` or by its attribute `head`. Otherwise it is the last
    `nn.Linear` in the order of `model.modules()`.

    Args:
        model: any network.
        head_lr: value in the config, for the error message.

    Raises:
        UserError: the network names no such layer and has no `nn.Linear`.
    """
    named: Any = getattr(model, "get_classifier", lambda: getattr(model, "head", None))()
    layers = [layer for layer in (named if isinstance(named, tuple) else (named,)) if isinstance(layer, nn.Module)]
    if not layers:
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    if not parameters:
        expected = f"1 for {type(model).__name__}, which has no linear layer and names no head"
        raise UserError("optim.head_lr", head_lr, expected, "Call its last layer `head`, or drop `optim.head_lr`.")
    return parameters


def _set_apart(optimizer: Optimizer, parameters: list[nn.Parameter], scale: float) -> None:
    """Move parameters to groups of their own, with the settings of their old groups and an `lr_scale`."""
    apart = {id(parameter) for parameter in parameters}
    kept, moved = [], []
    for group in optimizer.param_groups:
        others = [parameter for parameter in group["params"] if id(parameter) not in apart]
        own = [parameter for parameter in group["params"] if id(parameter) in apart]
        if others:
            kept.append({**group, "params": others})
        if own:
            moved.append({**group, "params": own, "lr_scale": scale * group.get("lr_scale", 1.0)})
    # The moved groups come last, since the rate of the first group is the one that is shown.
    optimizer.param_groups = kept + moved


def _check_arguments(kind: Any, create: Any, config: OptimConfig) -> None:
    # timm silently drops `betas` and `eps` where an optimiser has none.
    own = inspect.signature(kind).parameters
    known = {*own, *inspect.signature(create).parameters}
    unknown = sorted(set(config.kwargs) - known)
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        takes = ", ".join(name for name in own if name not in ("params", "lr", "momentum", "weight_decay"))
        expected = f"arguments of {config.name}, which has no {', '.join(unknown)}"
        raise UserError("optim.kwargs", config.kwargs, expected, f"It takes: {takes}.")


def _fastest(kind: Any, model: nn.Module, kwargs: dict[str, Any]) -> dict[str, bool]:
    """Return the argument that selects the fused kernel, where the optimiser has one."""
    # Milliseconds per step for an MLP 784-1200-1200-10 on two CPU cores, fused | foreach | loop: SGD 0.6 | 0.7 |
    # 0.7, Nesterov 0.6 | 1.0 | 1.3, AdamW 0.9 | 3.6 | 4.1. Forward and backward take 10.
    parameters = list(model.parameters())
    fits = bool(parameters) and all(
        parameter.device.type in _FUSED_DEVICES and parameter.is_floating_point() for parameter in parameters
    )
    # Dampening does not hold for a parameter's first gradient, which is lost where momentum starts as zero.
    chosen_by_user = {"fused", "foreach", "differentiable", "dampening"} & set(kwargs)
    return {"fused": True} if kind in _FUSED and fits and not chosen_by_user else {}


def _match_layout(optimizer: Optimizer) -> None:
    # Fused kernels go through the memory of parameter and state side by side and ignore strides. A momentum that
    # was saved in another memory format would silently be applied to the wrong weights.
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, steps_per_epoch: int) -> Scheduler:
    """Build the learning-rate schedule: `schedule.step_update(t)` sets the rate of update t = 0, 1, ...

    The rate is a pure function of t, so a resumed run calls `step_update` with the number of updates made and
    needs no other state. Warm-up ends at the peak after `warmup_epochs`, and its first rate is not zero. Cosine
    and linear schedules reach `lr × min_lr` at t = epochs × steps_per_epoch, just after the last update: an update
    at a rate of zero would do nothing. A group with an `lr_scale` gets that share of every rate, in warm-up and at
    the end too.

    Raises:
        UserError: the warm-up or a step of the schedule lies beyond the end of training.
    """
    scheduler = import_library("timm.scheduler")
    total = config.epochs * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if warmup >= total:
        expected = f"less than schedule.epochs = {config.epochs}"
        raise UserError("schedule.warmup_epochs", config.warmup_epochs, expected, "Train longer or shorten it.")
    peak = max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups)
    common = {"t_in_epochs": False, "warmup_t": warmup, "warmup_lr_init": peak / (warmup + 1)}
    decay = {"t_initial": total - warmup, "lr_min": peak * config.min_lr, "warmup_prefix": True}
    match config.name:
        case "cosine":
            schedule = scheduler.CosineLRScheduler(optimizer, **decay, **common)
        case "linear":
            schedule = scheduler.PolyLRScheduler(optimizer, power=1.0, **decay, **common)
        case "step" | "constant":
            milestones = _milestones(config, steps_per_epoch) if config.name == "step" else []
            schedule = scheduler.MultiStepLRScheduler(
                optimizer, decay_t=milestones, decay_rate=config.decay_rate, warmup_prefix=False, **common
            )
    schedule.step_update(0)
    return schedule


def _milestones(config: ScheduleConfig, steps_per_epoch: int) -> list[int]:
    if not config.decay_epochs or not all(0 < epoch < config.epochs for epoch in config.decay_epochs):
        expected = f"one or more epochs between 0 and schedule.epochs = {config.epochs}"
        way_out = "Set `schedule.decay_epochs`, or `schedule.name=constant`."
        raise UserError("schedule.decay_epochs", config.decay_epochs, expected, way_out)
    # timm's milestone m is in force from update m - 1 on.
    return sorted(round(epoch * steps_per_epoch) + 1 for epoch in config.decay_epochs)


def build_ema(model: nn.Module, decay: float) -> ModelEmaV3:
    """Build the exponential moving average of a model's weights and buffers.

    Call its `update(model, step=updates_made)` after each update. The decay grows to its final value as
    `1 - (1 + step)^(-2/3)`.

    Args:
        model: network on its device, with its initial weights.
        decay: final weight of the old average, in [0, 1).
    """
    # The growing decay soon forgets the random initial weights. With a fixed decay of 0.999 a short run would
    # mostly keep them.
    return import_library("timm.utils").ModelEmaV3(model, decay=decay, use_warmup=True)
