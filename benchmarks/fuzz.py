"""Files from strangers: does any reader crash, hang, run code or write where it should not?

    python -m benchmarks.fuzz [--files 10000] [--seed 0] [--only KIND ...] [--again NUMBER]

Makes a small file of every kind that is read, and then damages copies of them: bits flipped, ends
cut off, parts moved, headers edited, sizes and numbers replaced by others out of all proportion.
Each is read in a process whose memory is bounded. It must end in a right answer or in a
`UserError`. Anything else is a finding: another exception, a crash, more than `LIMIT` seconds, a
file opened for writing outside of its folder, a program started, a pickle looked into.

Which file is which depends on `--seed` and its number alone; `--again` reads one again, with its
traceback.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from PIL import Image

import wgan
from wgan.api import reopen
from wgan.build import build_state
from wgan.config import read_config, resolve
from wgan.data import DataOptions, open_source
from wgan.data.shards import UnreadableError
from wgan.errors import RunFailedError, UserError
from wgan.integrity import verify
from wgan.metrics.classifiers import CLASSIFIERS
from wgan.metrics.features import feature_space
from wgan.run import Run
from wgan.session import Session, report

LIMIT = 60.0
MEMORY = 2**30
"""What the machine is said to have."""

Reader = Callable[[Path, random.Random], object]


# -- a small file of every kind --------------------------------------------------------------------


def corpus(folder: Path) -> dict[str, Path]:
    """One whole file or run of every kind, by kind."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 3)).astype(np.float32)
    pictures = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8)
    made: dict[str, Path] = {}

    def add(kind: str, name: str, content: bytes) -> None:
        made[kind] = folder / kind / name
        made[kind].parent.mkdir()
        made[kind].write_bytes(content)

    add("npy", "a.npy", _saved(np.save, rows))
    add("npy-pictures", "a.npy", _saved(np.save, pictures))
    add("npz", "a.npz", _saved(np.savez, x=rows, c=rows[:, 0]))
    add("npz-packed", "a.npz", _saved(np.savez_compressed, x=pictures))
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", *pictures.shape) + pictures.tobytes()
    add("idx", "a-idx3-ubyte", idx)
    add("idx-gz", "a.gz", gzip.compress(idx, mtime=0))
    for kind, options in (("hdf5", {}), ("hdf5-packed", {"chunks": True, "compression": "gzip"})):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_dataset("group/x", data=rows, track_times=False, **options)
            file.create_dataset("c", data=rows[:, 0], track_times=False)
        add(kind, "a.h5", buffer.getvalue())
    table = pa.table({"a": rows[:, 0], "b": np.arange(40), "c": rows[:, 2] > 0})
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    add("csv", "a.csv", buffer.getvalue())
    add("csv-gz", "a.csv.gz", gzip.compress(buffer.getvalue(), mtime=0))
    for kind, packing in (("parquet", "none"), ("parquet-packed", "snappy")):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression=packing)
        add(kind, "a.parquet", buffer.getvalue())
    colour = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "pcx", "ico", "jp2"):
        buffer = io.BytesIO()
        try:
            colour.save(buffer, format={"jpg": "jpeg", "jp2": "jpeg2000"}.get(ending, ending))
        except (OSError, KeyError):  # a build of Pillow without it
            continue
        add(f"picture-{ending}", f"a.{ending}", buffer.getvalue())
    for kind, method in (("zip", zipfile.ZIP_STORED), ("zip-packed", zipfile.ZIP_DEFLATED)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for ending in ("png", "jpg"):
                content = (folder / f"picture-{ending}" / f"a.{ending}").read_bytes()
                archive.writestr(zipfile.ZipInfo(f"deep/a.{ending}"), content)
        add(kind, "a.zip", buffer.getvalue())
    inside = {
        ending: (folder / f"picture-{ending}" / f"a.{ending}").read_bytes()
        for ending in ("png", "jpg", "webp")
        if f"picture-{ending}" in made
    }
    _tars(folder / "tar" / "shards", inside, rng)
    made["tar"] = folder / "tar" / "shards"
    for kind, packing in (("shards", "none"), ("shards-packed", "snappy")):
        made[kind] = folder / kind / "shards"
        made[kind].mkdir(parents=True)
        held = [{"bytes": inside[e], "path": e} for e in sorted(inside)]
        for i in range(2):
            shard = pa.table({"image": held, "label": pa.array(np.arange(len(held)))})
            pyarrow.parquet.write_table(
                shard, made[kind] / f"{i}.parquet", row_group_size=2, compression=packing
            )
    made["shards-table"] = folder / "shards-table" / "shards"
    made["shards-table"].mkdir(parents=True)
    for i in range(2):
        pyarrow.parquet.write_table(
            table, made["shards-table"] / f"{i}.parquet", row_group_size=15, compression="none"
        )
    lenet = next(one for one in CLASSIFIERS if one.name == "lenet5")
    weights = {n: rng.normal(size=s).astype(np.float32) for n, s in lenet.shapes.items()}
    add("weights", "a.npz", _saved(np.savez, **weights))
    tiny: dict[str, Any] = {"width": 8, "depth": 1, "batch_size": 8, "latent": 2, "n_critic": 1}
    run = wgan.train("gaussians8", out=folder / "run" / "run", steps=6, checkpoint_every=2, **tiny)
    _without_times(run.run)
    made["run"] = run.run.path
    add("config", "a.yaml", (run.run.path / "config.yaml").read_bytes())
    photos = folder / "cache" / "photos"
    photos.mkdir(parents=True)
    for i in range(3):
        colour.rotate(i).save(photos / f"{i}.png")
        os.utime(photos / f"{i}.png", (0, 0))
    open_source(photos, DataOptions(size=8, cache=folder / "cache" / "kept"))
    made["cache"] = folder / "cache"
    return made


def _tars(folder: Path, pictures: Mapping[str, bytes], rng: np.random.Generator) -> None:
    """Two tars of samples with every kind of condition, in two of the formats that tars have."""
    folder.mkdir(parents=True)
    for i, form in enumerate((tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(folder / f"{i}.tar", "w", format=form) as archive:
            for j, (ending, content) in enumerate(pictures.items()):
                numbers = _saved(np.save, rng.normal(size=3).astype(np.float32))
                described = json.dumps({"age": j, "deep": {"a": [1]}}).encode()
                name = f"part/{'x' * (120 * i)}{j}"  # a long name has a header of its own
                for kind, part in (
                    *((ending, content), ("cls", b"7"), ("npy", numbers)),
                    ("json", described),
                ):
                    member = tarfile.TarInfo(f"{name}.{kind}")
                    member.size = len(part)
                    archive.addfile(member, io.BytesIO(part))


def _saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def _without_times(run: Run) -> None:
    """So that a file of a number is the same every time."""
    records = [
        {name: 0.25 if name.endswith("_seconds") else value for name, value in record.items()}
        for record in run.records()
    ]
    (run.path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    run.card["created"] = "2017-01-26T00:00:00+0000"
    run.write_card()


# -- damage ----------------------------------------------------------------------------------------

_EXTREME = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
_STRANGE = (
    *("0", "-1", "1e999", "NaN", "999999999999", "18446744073709551616", "1e-320", "0x7fffffff"),
    *("null", "true", '""', "[]", "{}", '"\\u0000"', "[[[[[[]]]]]]", "!!python/name:os.system"),
    *("&a [*a]", "2001-99-99", "'../../../x'", '"' + "x" * 5000 + '"', "[" * 3000, "9" * 5000),
)


def mutate(content: bytes, rng: random.Random, text: bool) -> bytes:
    """A damaged copy."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kinds = ("flip", "cut", "splice", "header", *("number" if text else "size",) * 3, "number")
        kind = rng.choice(kinds)
        if not data:
            return bytes(data)
        place = rng.randrange(len(data))
        if kind == "flip":
            for _ in range(rng.choice((1, 1, 3, 30))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[place:]
        elif kind == "splice":
            start = rng.randrange(len(data))
            part = data[start : start + rng.randrange(1, 200)]
            if rng.random() < 0.5:
                data[place : place + len(part)] = part
            else:
                data[place:place] = part
        elif kind == "header":
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(min(len(data), 128))] = rng.choice((0, 255, rng.randrange(256)))
        elif kind == "size":
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(_EXTREME) % 2 ** (8 * width)
            near = place if rng.random() < 0.5 else rng.randrange(min(len(data), 512))
            data[near : near + width] = value.to_bytes(width, rng.choice(("big", "little")))
        else:  # a number or a word in the text
            words = list(re.finditer(rb"[0-9][0-9.eE+-]*|[A-Za-z_]+|\"[^\"]*\"|'[^']*'", data))
            if words:
                word = rng.choice(words)
                data[word.start() : word.end()] = rng.choice(_STRANGE).encode()
    return bytes(data)


TEXT = {".csv", ".json", ".jsonl", ".yaml"}


def damaged(kind: str, whole: Path, place: Path, rng: random.Random) -> Path:
    """A damaged copy of a file, or of one file of a folder; what to hand to the reader."""
    if whole.is_file():
        target, content = place / whole.name, whole.read_bytes()
        if rng.random() < 0.5:
            target.write_bytes(mutate(content, rng, whole.suffix in TEXT))
        elif whole.suffix == ".gz":  # packed anew, so that it is found out later
            inner = mutate(gzip.decompress(content), rng, ".csv" in whole.name)
            target.write_bytes(gzip.compress(inner, mtime=0))
        elif whole.suffix in (".zip", ".npz"):
            target.write_bytes(_packed_anew(content, rng))
        else:
            target.write_bytes(mutate(content, rng, whole.suffix in TEXT))
        return target
    copy = place / whole.name
    shutil.copytree(whole, copy)
    files = [p for p in sorted(copy.rglob("*")) if p.is_file() and p.suffix in _PARSED[kind]]
    target = rng.choice(files)
    if target.suffix == ".tar" and rng.random() < 0.6:
        target.write_bytes(_tar_anew(target.read_bytes(), rng))
        return copy
    target.write_bytes(mutate(target.read_bytes(), rng, target.suffix in TEXT))
    sums = target.parent / "checksums.json"
    if kind == "run" and target.name != sums.name and sums.is_file() and rng.random() < 0.7:
        # a stranger's checksums are right
        stated = json.loads(sums.read_bytes())
        stated[target.name] = hashlib.sha256(target.read_bytes()).hexdigest()
        sums.write_text(json.dumps(stated))
    return copy


def _packed_anew(content: bytes, rng: random.Random) -> bytes:
    """An archive with one member damaged, or named so that it would escape, its checksum right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        chosen = rng.choice(old.namelist())
        for member in old.infolist():
            name, inner = member.filename, old.read(member)
            if name == chosen:
                inner = mutate(inner, rng, False)
                if rng.random() < 0.2:
                    name = rng.choice(("../../", "/", "C:\\", "a/../../../")) + name
            new.writestr(zipfile.ZipInfo(name), inner, member.compress_type)
    return buffer.getvalue()


def _tar_anew(content: bytes, rng: random.Random) -> bytes:
    """A tar with one member damaged, renamed or of another type, its checksums right."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(
            fileobj=buffer, mode="w", format=rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        ) as new,
    ):
        chosen = rng.choice(old.getnames())
        for member in old:
            file = old.extractfile(member)
            inner = file.read() if file else b""
            if member.name == chosen:
                how = rng.random()
                if how < 0.5:
                    inner = mutate(inner, rng, member.name.endswith((".json", ".cls")))
                elif how < 0.7:
                    member.name = rng.choice(("../../", "/", "a/../../../", "\udcff")) + member.name
                elif how < 0.8:
                    member.name += rng.choice((".pyd", ".pickle", ".png", ""))
                else:
                    member.type = rng.choice((b"1", b"2", b"3", b"5", b"6", b"S", b"g", b"z"))
                    member.linkname = "/etc/passwd"
            member.size = len(inner)
            new.addfile(member, io.BytesIO(inner))
    data = bytearray(buffer.getvalue())
    if rng.random() < 0.3:  # a header that claims what it likes, its checksum right
        headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
        at = rng.choice(headers)
        place, width = rng.choice(((124, 12), (156, 1), (0, 100), (345, 155)))
        if place == 124:
            claim = rng.choice(
                (b"77777777777\0", b"\x80" + b"\0" * 3 + b"\x7f" * 8, b"\xff" * 12, b"-1".ljust(12))
            )
            data[at + place : at + place + width] = claim
        else:
            data[at + place] = rng.randrange(256)
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    return bytes(data)


_PARSED = {
    "run": {".json", ".jsonl", ".yaml", ".safetensors", ".png"},
    "cache": {".json", ".npy"},
    "tar": {".tar"},
    "shards": {".parquet"},
    "shards-packed": {".parquet"},
    "shards-table": {".parquet"},
}


# -- readers ---------------------------------------------------------------------------------------


def read_data(path: Path, rng: random.Random) -> None:
    if path.suffix.lstrip(".") in ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm") or (
        path.suffix in (".tga", ".pcx", ".ico", ".jp2")
    ):
        path = path.parent
    cache = (path if path.is_dir() else path.parent) / ".kept"
    options = DataOptions(size=8, cache=cache)
    if path.suffix in (".npz", ".h5"):
        key = {".npz": "x", ".h5": "group/x"}[path.suffix]
        options = DataOptions(
            key=rng.choice((None, key, key)), condition=rng.choice((None, ("c",)))
        )
    _look_at(path, options)


def _look_at(path: Path, options: DataOptions) -> None:
    source = open_source(path, options)
    json.dumps(source.describe())
    train, held = source.split(0.1, 0)
    assert train.size is not None
    assert held.size is not None
    values = train.batch(torch.arange(min(train.size, 4))).values
    assert values.shape[1:] == source.shape
    assert torch.isfinite(values).all()


def read_shards(path: Path, rng: random.Random) -> None:
    kept: dict[str, Any] = {"size": 8, "cache": path.parent / ".kept"}
    if (path / "0.tar").exists():
        condition = rng.choice((None, ("cls",), ("npy", "age")))
    else:
        condition = rng.choice((None, ("label",)))
    options = DataOptions(condition=condition, skip_bad=rng.random() < 0.5, **kept)
    _look_at(path, options)
    _look_at(path, options)  # by the index that was kept


def read_tables(path: Path, rng: random.Random) -> None:
    """In memory, and as a table that does not fit."""
    options = DataOptions(drop_missing=rng.random() < 0.5, cache=path.parent / ".kept")
    before = vars(wgan.data.tables)["IN_MEMORY_BYTES"]
    vars(wgan.data.tables)["IN_MEMORY_BYTES"] = rng.choice((0, before))
    try:
        _look_at(path, options)
    finally:
        vars(wgan.data.tables)["IN_MEMORY_BYTES"] = before


def read_cache(path: Path, rng: random.Random) -> None:
    """A damaged entry of the cache is built again."""
    for photo in (path / "photos").iterdir():
        os.utime(photo, (0, 0))
    source = open_source(path / "photos", DataOptions(size=8, cache=path / "kept"))
    whole = open_source(path / "photos", DataOptions(size=8, cache=path / "other"))
    some = torch.arange(3)
    assert source.fingerprint == whole.fingerprint
    assert torch.equal(source.batch(some).values, whole.batch(some).values)


def read_weights(path: Path, rng: random.Random) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    assert feature_space(str(path), pictures)(pictures).shape == (2, 84)


def read_configuration(path: Path, rng: random.Random) -> None:
    given = read_config(path)
    given.pop("data", None)
    source = open_source("gaussians8")
    config, _ = resolve(given, source, "gaussians8")
    json.dumps(config.plain())
    build_state(config, source)


def read_run(path: Path, rng: random.Random) -> None:
    """All that can be done with a run; each may refuse, and the next is tried all the same."""
    refused: UserError | None = None

    def tried(work: Callable[[], object]) -> None:
        nonlocal refused
        try:
            work()
        except UserError as error:
            refused = error

    tried(lambda: wgan.load(path).sample(2))
    tried(lambda: wgan.load(path).records)
    if rng.random() < 0.3:
        tried(lambda: verify(path, seconds=0.05))
    if rng.random() < 0.15:
        tried(lambda: report([Run.open(path)]))
    if rng.random() < 0.3:

        def go_on() -> None:
            session = reopen(path, steps=10**6)
            assert isinstance(session, Session)
            with closing(session):
                next(session.records())

        tried(go_on)
    if refused is not None:
        raise refused


READERS: Mapping[str, Reader] = {
    "run": read_run,
    "config": read_configuration,
    "cache": read_cache,
    "tar": read_shards,
    "shards": read_shards,
    "shards-packed": read_shards,
    "shards-table": read_tables,
    "weights": read_weights,
}


# -- the watch -------------------------------------------------------------------------------------


def read_one(number: int, seed: int, kinds: list[str], made: dict[str, Path], place: Path) -> str:
    """Read one damaged file; ``refused``, ``read``, or what went wrong."""
    kind = kinds[number % len(kinds)]
    rng = random.Random(f"{seed}:{number}:{kind}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = damaged(kind, made[kind], place, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        READERS.get(kind, read_data)(path, rng)
    return "read"


def _guard(folder: Path, findings: list[str]) -> None:
    """Note what this process must not do."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    inside = (str(folder), "/dev/null", "/proc/self")
    never = ("os.system", "os.exec", "subprocess.Popen", "pickle.find_class", "socket.connect")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in never or event.startswith("os.posix_spawn"):
            findings.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            wrote = isinstance(flags, int) and flags & writing
            if wrote and isinstance(path, str) and not os.path.abspath(path).startswith(inside):
                findings.append(f"opened {path} for writing")
        elif event in ("os.mkdir", "os.rename", "os.symlink", "os.link"):
            path = os.fsdecode(arguments[1 if event == "os.rename" else 0])
            if not os.path.abspath(path).startswith(inside):
                findings.append(f"{event} {path}")

    sys.addaudithook(hook)


def work(
    numbers: range, seed: int, kinds: list[str], made: dict[str, Path], folder: Path, out: int
) -> None:
    """Read files and write a line about each to `out`: number, outcome, seconds."""
    sysconf = os.sysconf
    os.sysconf = lambda name: (
        MEMORY // sysconf("SC_PAGE_SIZE") if name == "SC_PHYS_PAGES" else sysconf(name)
    )
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * MEMORY, used + 4 * MEMORY))
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    os.chdir(empty)
    findings: list[str] = []
    _guard(folder / "place", findings)
    for number in numbers:
        os.write(out, f"{number}\n".encode())
        began = time.monotonic()
        try:
            outcome = read_one(number, seed, kinds, made, folder / "place")
        except (UserError, RunFailedError, UnreadableError) as error:
            outcome = "refused"
            if not str(error).strip():
                outcome = "FINDING an error that says nothing"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"FINDING {type(error).__name__}: {str(error)[:200]!r} at {where.filename}"
            outcome += f":{where.lineno}"
        if findings or any(empty.iterdir()):
            outcome = f"FINDING {'; '.join(findings) or 'a file was written elsewhere'}"
            findings.clear()
        seconds = time.monotonic() - began
        os.write(out, (json.dumps([number, outcome, seconds]) + "\n").encode())


def watch(
    files: int, seed: int, kinds: list[str], made: dict[str, Path], folder: Path
) -> dict[int, tuple[str, float]]:
    """Every file's outcome and seconds, whatever becomes of the processes that read them."""
    results: dict[int, tuple[str, float]] = {}
    number = 0
    while number < files:
        source, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(source)
            work(range(number, files), seed, kinds, made, folder, out)
            os._exit(0)
        os.close(out)
        heard, hung = time.monotonic(), False
        os.set_blocking(source, False)
        pending = b""
        while True:
            try:
                part = os.read(source, 65536)
                if not part:
                    break
                heard, pending = time.monotonic(), pending + part
            except BlockingIOError:
                if time.monotonic() - heard > LIMIT:
                    hung = True
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
                continue
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if line.startswith(b"["):
                    done, outcome, seconds = json.loads(line)
                    results[done] = (outcome, seconds)
                else:
                    number = int(line)
        os.close(source)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if number in results:
            break
        how = f"no end after {LIMIT:.0f} s" if hung else f"the process died with status {status}"
        results[number] = (f"FINDING {how}", LIMIT if hung else 0.0)
        number += 1
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", metavar="KIND")
    parser.add_argument("--again", type=int, metavar="NUMBER")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        (folder / "corpus").mkdir()
        made = corpus(folder / "corpus")
        kinds = [k for k in made if not given.only or any(k.startswith(o) for o in given.only)]
        if given.again is not None:
            read_one(given.again, given.seed, kinds, made, folder / "place")
            return 0
        results = watch(given.files, given.seed, kinds, made, folder)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for number, (outcome, _) in results.items():
        outcomes[kinds[number % len(kinds)]][outcome.split()[0]] += 1
    print(f"{'kind':<16} {'read':>6} {'refused':>8} {'findings':>9}")
    for kind, counts in outcomes.items():
        print(f"{kind:<16} {counts['read']:>6} {counts['refused']:>8} {counts['FINDING']:>9}")
    bad = {n: o for n, (o, _) in sorted(results.items()) if o.startswith("FINDING")}
    for number, outcome in bad.items():
        print(f"{number} ({kinds[number % len(kinds)]}): {outcome:.400}")
    slowest = max(results, key=lambda n: results[n][1])
    print(
        f"{len(results)} files, {len(bad)} findings, {time.monotonic() - began:.0f} s; the slowest "
        f"took {results[slowest][1]:.1f} s ({slowest}, {kinds[slowest % len(kinds)]})"
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
