"""How fast is a step? Against the plain published loop, and against the machine's own ceiling.

    python -m benchmarks.speed [--rows digits,mlp128] [--seconds 20] [--threads 1]
                               [--no-compiled] [--json FILE]

The plain loop is Algorithm 1 of Arjovsky et al. 2017, or of Gulrajani et al. 2017, as everyone
writes it: eager, fp32, torch's optimizers as they come, one `.item()` a loss and step. It has the
same networks, data, batch and learning rates as the engine, computes no gradient that it does not
need, and runs in a process of its own. "Plain, helped" is the same loop in the engine's process,
which keeps freed memory, and with channels last where that is faster here.

All variants of a row alternate, a few steps each. Times are of the processor with one thread, so
that other processes disturb them less, and of the clock with several; a ratio is the median over
rounds of the plain loop's time by the variant's. The ceiling is the fastest of several large matrix
products (torch's routine and oneDNN's) or convolutions.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import wgan.build as engine
from wgan.auto import Departure
from wgan.build import build_state
from wgan.cli.progress import Progress
from wgan.config import Config, resolve
from wgan.data import Source, open_source
from wgan.layers.product import product
from wgan.layers.thin import ThinConvTranspose2d
from wgan.session import Session
from wgan.training import TrainState, synthesize, train

Step = Callable[[], object]
Images = torch.channels_last


@dataclass(frozen=True)
class Work:
    """A row of the table.

    Attributes:
        title: In words.
        data: Makes the source.
        settings: Of the engine; the plain loop takes its hyperparameters from what they resolve to.
        variants: Of the engine, see `VARIANTS`.
        floor: The ratio to the plain loop that each variant should reach.
    """

    title: str
    data: Callable[[], Source]
    settings: dict[str, Any]
    variants: tuple[str, ...]
    floor: dict[str, float]
    network: str = "convolution"


def everyones(network: nn.Module) -> nn.Module:
    """A copy of a network, with torch's own layer in the place of each of the engine's."""
    copy = deepcopy(network)
    for module in copy.modules():
        if type(module) is ThinConvTranspose2d:
            module.__class__ = nn.ConvTranspose2d  # type: ignore[assignment]
    return copy


def pictures(side: int, channels: int) -> Source:
    shape = (2_000, side, side, channels) if channels > 1 else (2_000, side, side)
    return open_source(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def plane() -> Source:
    rng = np.random.default_rng(0)
    angle = rng.integers(0, 8, 50_000) * (np.pi / 4)
    centre = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return open_source((centre + 0.02 * rng.normal(size=centre.shape)).astype(np.float32))


VARIANTS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "compile": "off"},
    "fp32 compiled": {"precision": "fp32", "compile": "on"},
    "bf16": {"precision": "bf16", "compile": "off"},
    "bf16 compiled": {"precision": "bf16", "compile": "on"},
}

HELPED = "plain, helped"

_PUBLISHED = {"settings": "published", "audit_every": 0}
_CLIP = {**_PUBLISHED, "recipe": "wgan", "network": "dcgan"}
_GP = {**_PUBLISHED, "recipe": "wgan-gp", "critic_norm": "none"}
_TOY = {**_GP, "network": "mlp", "batch_size": 256, "latent": 2, "n_critic": 5}
_SMALL = ("fp32", "fp32 compiled")

ROWS: dict[str, Work] = {
    "dcgan64": Work(
        "DCGAN 64x64x3, 64 filters, batch 64, clipping",
        lambda: pictures(64, 3),
        {**_CLIP, "width": 64},
        tuple(VARIANTS),
        {"fp32": 1.2, "bf16": 1.8},
    ),
    "dcgan32": Work(
        "DCGAN 32x32x1, 32 filters, batch 64, clipping",
        lambda: pictures(32, 1),
        {**_CLIP, "width": 32},
        tuple(VARIANTS),
        {"fp32": 1.4, "bf16": 2.2},
    ),
    "dcgan32-gp": Work(
        "DCGAN 32x32x1, 32 filters, batch 64, GP",
        lambda: pictures(32, 1),
        {**_GP, "network": "dcgan", "width": 32},
        tuple(VARIANTS),
        {"fp32": 1.4, "bf16": 2.2},
    ),
    "mlp512": Work(
        "MLP 512, batch 256, GP, 5 critic updates",
        plane,
        {**_TOY, "width": 512},
        _SMALL,
        {"fp32": 1.3},
        "matrix product",
    ),
    "mlp128": Work(
        "MLP 128, batch 256, GP, 5 critic updates",
        plane,
        {**_TOY, "width": 128},
        _SMALL,
        {"fp32": 1.7},
        "matrix product",
    ),
    "digits": Work(
        "MLP 256 on 8x8 digits, batch 64, GP, 3 critic updates",
        lambda: open_source("digits"),
        {**_GP, "network": "mlp", "width": 256, "n_critic": 3},
        _SMALL,
        {"fp32": 2.2},
        "matrix product",
    ),
}


# -- the plain loop ------------------------------------------------------------------------------


def plain_steps(state: TrainState, source: Source, *, channels_last: bool) -> Iterator[float]:
    """The published loop over networks like those of a state; yields the generator's loss."""
    method = state.method
    assert state.critic is not None
    assert source.size is not None
    generator, critic = everyones(state.generator.module), everyones(state.critic.module)
    values = source.batch(torch.arange(source.size)).values
    if channels_last:
        for network in (generator, critic):
            network.to(memory_format=Images)  # type: ignore[call-overload]
        values = values.contiguous(memory_format=Images)
    players = (generator, method.generator_optimizer), (critic, method.critic_optimizer)
    generator_optimizer, critic_optimizer = (
        torch.optim.RMSprop(network.parameters(), spec.lr, spec.alpha)
        if spec.name == "rmsprop"
        else torch.optim.Adam(network.parameters(), spec.lr, (spec.beta1, spec.beta2))
        for network, spec in players
    )
    (constraint,) = method.constraints
    penalised = constraint.name == "gradient-penalty"
    count, last = method.batch_size, values.dim() - 1

    while True:
        for parameter in critic.parameters():
            parameter.requires_grad_(True)
        for _ in range(method.n_critic):
            real = values[torch.randint(len(values), (count,))]
            with torch.no_grad():
                fake = generator(torch.randn(count, method.latent))
            critic_optimizer.zero_grad(set_to_none=True)
            loss = critic(fake).score.mean() - critic(real).score.mean()
            if penalised:
                mix = torch.rand(count, *[1] * last)
                between = (mix * real + (1 - mix) * fake).requires_grad_(True)
                score = critic(between).score
                (slope,) = torch.autograd.grad(
                    score, between, torch.ones_like(score), create_graph=True
                )
                penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
                loss = loss + constraint.weight * penalty  # type: ignore[attr-defined]
            loss.backward()
            critic_optimizer.step()
            if not penalised:
                with torch.no_grad():
                    for parameter in critic.parameters():
                        bound = constraint.bound  # type: ignore[attr-defined]
                        parameter.clamp_(-bound, bound)
        seen = loss.item()
        for parameter in critic.parameters():
            parameter.requires_grad_(False)
        generator_optimizer.zero_grad(set_to_none=True)
        latent = torch.randn(method.generator_batch_size, method.latent)
        generator_loss = -critic(generator(latent)).score.mean()
        generator_loss.backward()
        generator_optimizer.step()
        yield generator_loss.item() + seen


# -- measuring -----------------------------------------------------------------------------------


def now() -> float:
    """Seconds: of the processor with one thread, else of the clock, as threads wait by spinning."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(step: Step, steps: int) -> float:
    """Seconds a step."""
    if isinstance(step, Elsewhere):
        return step.seconds(steps)
    began = now()
    for _ in range(steps):
        step()
    return (now() - began) / steps


class Elsewhere:
    """The plain loop of a row in a process that has nothing of the engine but its networks."""

    def __init__(self, row: str) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = row, torch.get_num_threads(), theirs
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    def __call__(self) -> None:
        self.seconds(1)

    def seconds(self, steps: int) -> float:
        """Seconds a step there."""
        self._pipe.send(steps)
        return float(self._pipe.recv())

    def end(self) -> None:
        """Let the process go."""
        self._pipe.send(0)
        self._process.join()


def _serve(row: str, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    engine._keep_freed_memory = lambda: None  # type: ignore[assignment]
    state, source = build(ROWS[row], {})
    plain = plain_steps(state, source, channels_last=False)
    next(plain)
    while steps := pipe.recv():
        pipe.send(seconds_of(lambda: next(plain), steps))


def alternate(variants: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Seconds a step of each variant in each round; every round has all of them, in turn."""
    took: dict[str, list[float]] = {name: [] for name in variants}
    for step in variants.values():
        step()
        step()
    each = {name: max(1, round(0.25 / seconds_of(step, 2))) for name, step in variants.items()}
    began = time.monotonic()
    names = list(variants)
    gc.collect()
    while time.monotonic() - began < seconds or len(took[names[0]]) < 5:
        names.append(names.pop(0))  # who comes first in a round takes turns
        for name in names:
            took[name].append(seconds_of(variants[name], each[name]))
    return took


def ratio(took: dict[str, list[float]], name: str, against: str) -> float:
    """How many times as fast as `against`: the median over rounds."""
    return median(a / b for a, b in zip(took[against], took[name], strict=True))


def steps_of(state: TrainState, source: Source) -> Step:
    """One training step of the engine a call."""
    records = train(state, source, until=2**62)
    return lambda: next(records)


def flops_of(step: Step) -> float:
    """Floating point operations of matrix products and convolutions in a step."""
    with _Counter() as counter:
        step()
    return float(counter.flops)


class _Counter(TorchDispatchMode):
    """Adds up torch's own formulas; its `FlopCounterMode` cannot look inside `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def ceilings(seconds: float = 1.0) -> dict[str, float]:
    """GFLOP/s of this machine: the best of several sizes, by kind and precision."""
    found: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        products = []
        for size in (512, 1024, 2048):
            a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
            products.append((2.0 * size**3, partial(torch.mm, a, b)))
            products.append((2.0 * size**3, partial(product, a, b)))
        found[f"matrix product, {name}"] = _best(products, seconds)
        convolutions = []
        for inputs, outputs, side in ((64, 128, 32), (128, 256, 16), (256, 512, 8)):
            x = torch.randn(64, inputs, side, side).to(dtype).contiguous(memory_format=Images)
            w = torch.randn(outputs, inputs, 4, 4).to(dtype).contiguous(memory_format=Images)
            work = 2.0 * 64 * outputs * inputs * 16 * (side // 2) ** 2
            convolutions.append((work, partial(F.conv2d, x, w, stride=2, padding=1)))
        found[f"convolution, {name}"] = _best(convolutions, seconds)
    return found


@torch.no_grad()
def _best(calls: Sequence[tuple[float, Step]], seconds: float) -> float:
    best = 0.0
    for work, call in calls:
        call()
        began = time.monotonic()
        while time.monotonic() - began < seconds / len(calls):
            best = max(best, work / max(seconds_of(call, 3), 1e-9) / 1e9)
    return best


# -- the rows ------------------------------------------------------------------------------------


def resolved(work: Work, more: dict[str, Any]) -> tuple[Config, tuple[Departure, ...], Source]:
    source = work.data()
    config, departures = resolve({**work.settings, **more, "steps": 10**6}, source, "benchmark")
    return config, departures, source


def build(work: Work, more: dict[str, Any]) -> tuple[TrainState, Source]:
    config, _, source = resolved(work, more)
    training, _ = source.split(config.holdout, config.split_seed)
    return build_state(config, training), training


def measure(name: str, variants: Sequence[str], seconds: float) -> dict[str, Any]:
    """One row: ratios to the plain loop, and its arithmetic."""
    work = ROWS[name]
    state, source = build(work, {})
    plain = plain_steps(state, source, channels_last=False)
    helped: dict[str, Step] = {"as it is": lambda: next(plain)}
    flops = flops_of(helped["as it is"])
    if len(source.shape) == 3:
        last = plain_steps(state, source, channels_last=True)
        helped["channels last"] = lambda: next(last)
    pilot = alternate(helped, seconds / 8)
    best = max(helped, key=lambda kind: ratio(pilot, kind, "as it is"))
    elsewhere = Elsewhere(name)
    kinds: dict[str, Step] = {"plain": elsewhere, HELPED: helped[best]}
    for variant in variants:
        kinds[variant] = steps_of(*build(work, VARIANTS[variant]))
    took = alternate(kinds, seconds)
    elsewhere.end()
    found = {
        name: {"ms": 1000 * median(times), "ratio": ratio(took, name, "plain")}
        for name, times in took.items()
    }
    return {
        "title": work.title,
        "gflop": flops / 1e9,
        "floor": work.floor,
        "network": work.network,
        "variants": found,
    }


def run_steps(work: Work, folder: Path) -> Step:
    """One step a call of a whole run: records, TensorBoard, progress, checkpoints and pictures."""
    config, departures, source = resolved(work, {})
    session = Session.create(folder / "run", config, departures, source)
    assert isinstance(session, Session)  # there is one process
    progress = Progress(config.objective.estimate, first=0, steps=config.steps, deadline=None)
    records = session.records()

    def step() -> None:
        progress.show(next(records))

    return step


def measure_run(work: Work, seconds: float) -> dict[str, float]:
    """A whole run's time against that of its own bare steps: all that was spent, not medians.

    What a run does beside its steps falls on few of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"bare": steps_of(*build(work, {})), "run": run_steps(work, Path(folder))}
        took = alternate(kinds, seconds)
    return {name: 1000 * sum(times) / len(times) for name, times in took.items()}


def measure_sampling(work: Work, seconds: float) -> dict[str, float]:
    """Milliseconds for 1,024 samples: by the engine, and by the module with gradients off."""
    state, _ = build(work, {})
    plain = everyones(state.average).eval()
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    latent = state.latents(_SAMPLES)

    @torch.no_grad()
    def eager() -> Tensor:
        batch = work.settings.get("batch_size", 64)
        return torch.cat([plain(z) for z in latent.chunk(_SAMPLES // batch)])

    kinds: dict[str, Step] = {
        "eager": eager,
        "engine": lambda: synthesize(state.average, latent, None, state.like),
    }
    took = alternate(kinds, seconds)
    return {name: 1000 * median(times) for name, times in took.items()} | {
        "ratio": ratio(took, "engine", "eager")
    }


_SAMPLES = 1024
_WHOLE_RUNS = ("dcgan32-gp", "digits")
_SAMPLED = ("dcgan64", "dcgan32", "mlp512")


# -- the page ------------------------------------------------------------------------------------

_BEGIN = "<!-- table: written by `python -m benchmarks.speed --page docs/speed.md` -->"
_END = "<!-- end of the table -->"


def page(found: dict[str, Any]) -> str:
    """The tables of a measurement in Markdown."""
    lines = [
        "| work | GFLOP a step | plain, GFLOP/s | of the ceiling "
        + "".join(f"| {name} " for name in (HELPED, *VARIANTS))
        + "| floors |",
        "|---" * (6 + len(VARIANTS)) + "|",
    ]
    for row in found["rows"].values():
        seen = row["variants"]
        speed = row["gflop"] / seen["plain"]["ms"] * 1000
        best = min((v["ms"], name) for name, v in seen.items() if name in VARIANTS)
        kind = "bf16" if "bf16" in best[1] else "fp32"
        share = row["gflop"] / best[0] * 1000 / found["ceilings"][f"{row['network']}, {kind}"]
        ratios = [f"{seen[n]['ratio']:.2f}" if n in seen else "" for n in (HELPED, *VARIANTS)]
        floors = ", ".join(f"{value} {name}" for name, value in row["floor"].items())
        cells = [row["title"], f"{row['gflop']:.3g}", f"{speed:.0f}", f"{share:.0%} {best[1]}"]
        lines.append("| " + " | ".join([*cells, *ratios, floors]) + " |")
    lines += ["", "| beside the step | ratio | floor |", "|---|---|---|"]
    for title, times in found["runs"].items():
        value = times["run"] / times["bare"]
        lines.append(
            f"| a whole run's time by its bare steps', {title} | {value:.3f} | 1.03 at most |"
        )
    for title, times in found["sampling"].items():
        each = f"{times['engine'] / _SAMPLES:.3g} ms an image"
        lines.append(
            f"| sampling against eager with gradients off, {title}: {each} "
            f"| {times['ratio']:.2f} | 1.5 |"
        )
    time_of = "processor" if found["threads"] == 1 else "clock"
    ceilings = ", ".join(f"{name} {value:.0f}" for name, value in found["ceilings"].items())
    lines += [
        "",
        f"{found['threads']} thread{'s' * (found['threads'] > 1)}, load {found['load']:.0f}, torch "
        f"{torch.__version__}, {time_of} time, medians of alternating rounds. Ceilings in GFLOP/s: "
        f"{ceilings}. Of the ceiling: what the fastest variant reaches of that of its precision.",
    ]
    return "\n".join(lines)


def write_page(path: Path, found: dict[str, Any]) -> None:
    """Put the tables in their place on a page whose other text is written by hand."""
    text = path.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{path} has no place for the table: {_BEGIN} ... {_END}")
    path.write_text(f"{before}{begin}\n\n{page(found)}\n\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", default=",".join(ROWS), help="which, by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compiled", action="store_false", dest="compiled")
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = arguments.rows.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    found: dict[str, Any] = {"threads": arguments.threads, "ceilings": ceilings()}
    found |= {"rows": {}, "runs": {}, "sampling": {}}
    for name, value in found["ceilings"].items():
        print(f"{name:<24} {value:7.0f} GFLOP/s", flush=True)
    for name in names:
        work = ROWS[name]
        variants = [v for v in work.variants if arguments.compiled or "compiled" not in v]
        row = found["rows"][name] = measure(name, variants, arguments.seconds)
        print(f"\n{row['title']}: {row['gflop']:.2f} GFLOP a step")
        for variant, seen in row["variants"].items():
            speed = row["gflop"] / seen["ms"] * 1000
            print(
                f"  {variant:<16} {seen['ms']:9.2f} ms  {seen['ratio']:5.2f}  {speed:6.0f} GFLOP/s"
            )
    for name in [name for name in names if name in _WHOLE_RUNS]:
        times = found["runs"][ROWS[name].title] = measure_run(ROWS[name], arguments.seconds)
        print(f"a whole run by its bare steps, {name}: {times['run'] / times['bare']:.3f}")
    for name in [name for name in names if name in _SAMPLED]:
        times = found["sampling"][ROWS[name].title] = measure_sampling(
            ROWS[name], arguments.seconds / 2
        )
        print(f"sampling against eager, {name}: {times['ratio']:.2f}")
    found["load"] = os.getloadavg()[1]
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.page:
        write_page(arguments.page, found)


if __name__ == "__main__":
    main()
