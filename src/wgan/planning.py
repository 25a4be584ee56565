"""What is settled before a run's first step: its audits, what may end it, whether it is compiled.

Whatever depends on the machine's speed is timed here once, on a state of its own, and written into
the configuration, so that a resumed run repeats it. Several processes take part in the steps; rank
0's clock counts.
"""

from __future__ import annotations

import dataclasses
import math
import time
from copy import deepcopy

from torch import nn

from wgan.build import build_state
from wgan.config import Config
from wgan.data.base import Source
from wgan.diagnostics import Audit, HeldOut, Stopping, parse_rule
from wgan.diagnostics.audit import PROBE_UPDATES
from wgan.diagnostics.stopping import require_known
from wgan.errors import NonFiniteError, UserError
from wgan.layers.convolution import CONVOLUTIONS, TRANSPOSED
from wgan.training import TrainState, ranks, train
from wgan.training.compiled import COMPILING_SECONDS, has_compiler

_COMPILING_SHARE = 0.05  # of the time, at most
_AUDIT_SHARE = 0.05  # of the time, at most
_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)  # with a power of ten, for numbers of steps
_AUDIT_LEAST = 0.2  # seconds that any audit takes
_SLOW = 1.0  # seconds from which one timing is enough


def _recorded(
    config: Config, training: Source, generator: nn.Module | None, critic: nn.Module | None
) -> list[str]:
    """The names in a run's records, from a step of a state of its own."""
    state = build_state(config, training, deepcopy(generator), deepcopy(critic))
    return list(next(train(state, training, until=1)))


def plan_audits(
    config: Config,
    training: Source,
    heldout: Source,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> tuple[Audit | None, int]:
    """The audit of a run and the steps between two, so that they take 5% of its time at most.

    Some steps and an audit of a state of their own are timed before the run begins, so that which
    steps are audited is settled then and a resumed run repeats them. The interval is a round
    number. A run that is too short for one audit within its share has none: the interval is 0.
    """

    def fresh() -> TrainState:
        state = build_state(config, training, deepcopy(generator), deepcopy(critic))
        # Only the time of an ordinary step counts.
        state.method = dataclasses.replace(state.method, warmup=False)
        return state

    def took(state: TrainState) -> float:
        began = time.perf_counter()
        for _ in train(state, training, until=state.step + 1):
            pass
        return ranks.decided(lambda: time.perf_counter() - began)

    state = fresh()
    try:
        step = took(state)
        if step < _SLOW:  # a first one loads what later ones have
            step = min(took(state) for _ in range(3))
    except NonFiniteError:
        return None, 0  # the run itself will say so
    length = math.inf if config.steps is None else config.steps * step
    length = min(length, math.inf if config.seconds is None else config.seconds)
    updates = 1 if state.critic is None else state.method.n_critic * state.method.critic_passes
    least = max(_AUDIT_LEAST, PROBE_UPDATES / (updates + 1) * step if state.critic else 0.0)
    if _AUDIT_SHARE * length < least:
        return None, 0
    audit = make_audit(config, training, heldout)
    if audit is None:
        return None, 0
    before = deepcopy(audit.tensors())
    seconds = ranks.decided(lambda: float(str(audit(state)["audit_seconds"])))
    if seconds < _SLOW:
        again = ranks.decided(lambda: float(str(audit(state)["audit_seconds"])))
        seconds = min(seconds, again)
    audit.load(before)
    needed = max(10.0, seconds / (_AUDIT_SHARE * step))
    power = 10 ** math.floor(math.log10(needed))
    every = next(int(power * k) for k in _ROUND if power * k >= needed)
    if every * step > length:
        return None, 0
    return audit, every


def worth_compiling(
    config: Config,
    training: Source,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> tuple[str, str]:
    """`on` where compiling the losses takes 5% of the run's expected time at most, else `off`; why.

    Steps of a state of its own are timed. On a CPU convolutions are not compiled: there is little
    to gain around them, and they lose the order in memory that suits them (docs/speed.md).
    """
    longest = COMPILING_SECONDS / _COMPILING_SHARE
    short = f"compiling would take more than {_COMPILING_SHARE:.0%} of the run's time"
    if config.seconds is not None and config.seconds < longest:
        return "off", short
    if config.device == "cpu" and not has_compiler():
        return "off", "there is no C++ compiler"
    state = build_state(config, training, deepcopy(generator), deepcopy(critic))
    if state.critic is None:
        return "off", "without a critic there is little to compile"
    modules = [*state.critic.module.modules(), *state.generator.module.modules()]
    if config.device == "cpu" and any(isinstance(m, CONVOLUTIONS + TRANSPOSED) for m in modules):
        return "off", "on a CPU compiled convolutions are slower"
    state.method = dataclasses.replace(state.method, warmup=False)
    try:
        records = list(train(state, training, until=3))
    except NonFiniteError as error:  # the run itself will say so
        return "off", f"`{error.term}` is not finite"
    step = ranks.decided(lambda: min(float(str(record["step_seconds"])) for record in records))
    length = math.inf if config.steps is None else config.steps * step
    length = min(length, config.seconds or math.inf)
    if length < longest:
        return "off", short
    return "on", f"it takes about {COMPILING_SECONDS:.0f} s of some {length:.0f}"


def make_audit(config: Config, training: Source, heldout: Source) -> Audit | None:
    """The audit of a run; None where it has none, or too few samples are held out for one."""
    if config.audit_every == 0:
        return None
    held = HeldOut.of(heldout, config.audit_features)
    if held is None:
        return None
    return Audit(training, held, seed=config.seed, latent=config.hyper.latent)


def make_stopping(
    config: Config,
    audit: Audit | None,
    training: Source,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Stopping:
    """What may end the run early.

    Raises:
        UserError: A rule that cannot be read, or that asks for what the run does not record.
    """
    rule = None if config.stop_when is None else parse_rule(config.stop_when)
    asks = config.patience is not None or (rule is not None and rule.name.startswith("audit."))
    if asks and audit is None:
        raise UserError(
            "`stop_when` and `patience` go by audits, and this run has none: give `audit_every` "
            "(in so short a run audits take more than 5% of the time), and hold out 30 samples "
            "or more"
        )
    if rule is not None:
        clipped = any(c.name == "weight-clipping" for c in config.constraints)
        own = config.objective.uses_critic
        terms = audit.terms(critic=own, clipped=clipped) if audit else []
        if rule.name not in terms:
            require_known(rule, [*terms, *_recorded(config, training, generator, critic)])
    return Stopping(rule, config.patience)
