"""The doctor on real runs, and on the losses of other tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wgan
from wgan.checkup import examine
from wgan.cli import main
from wgan.errors import UserError

TINY: dict[str, Any] = {
    "width": 16, "depth": 2, "batch_size": 16, "n_critic": 1, "latent": 4, "steps": 12,
}  # fmt: skip


def test_a_run_is_examined_and_left_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(600, 4))
    data[:, 2] = 3.0
    place = tmp_path / "run"
    wgan.train(data, out=place, audit_every=4, **TINY)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    found = wgan.doctor(place, data=data)
    assert found.verdict == "ill"
    assert found.findings[0].name == "constant-column"
    assert "column 2" in found.findings[0].evidence
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
    seen = examine(place, data=data)
    assert seen.steps == 12
    assert seen.networks is not None
    assert len(seen.networks.critic) == 3
    assert 0 < seen.networks.generator_step < 0.1
    assert seen.networks.moved is not None
    assert 0 < seen.networks.moved < 0.5
    assert seen.judged["w1"].value > seen.judged["w1"].floor
    without = wgan.doctor(place)  # the array was in memory, and is gone
    assert "was in memory" in without.missing


def test_the_command_says_it_in_words_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run"
    with pytest.raises(wgan.RunFailedError):
        wgan.train(
            "gaussians8", out=place, recipe="wgan", optimizer="sgd", lr=1e4,
            constraints={"weight-clipping": {"bound": 1e9}}, **{**TINY, "steps": 200},
        )  # fmt: skip
    assert main(["doctor", str(place)]) == 0
    out = capsys.readouterr().out
    assert "diverged (99% sure)" in out
    assert "  do    lower --lr" in out
    assert main(["doctor", str(place), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "ill"
    assert set(found["findings"][0]) == {
        "name", "evidence", "cause", "advice", "confidence", "kind",
    }  # fmt: skip
    assert main(["doctor", str(tmp_path / "nothing.csv")]) == 2
    assert "there is no file or folder" in capsys.readouterr().err


def test_losses_of_other_tools(tmp_path: Path) -> None:
    rows = ["iteration,Loss_D,Wasserstein_D,grad_norm_D,note"]
    rows += [f"{i * 10},{-i},{2.0 ** (i / 8)},{2.0 ** (i / 4)},x" for i in range(1, 200)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n31,nan,,,\n")
    found = wgan.doctor(path)
    names = [finding.name for finding in found.findings]
    assert names == ["divergence-ahead", "exploding-gradient"]
    assert "critic_loss, step" not in found.missing
    assert "wasserstein_estimate" in found.missing


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a,b\nx,y\n", "holds no numbers over steps"),
        ("foo,bar\n" + "1,2\n" * 50, "has foo, bar, of which none is known here; call the columns "
         "critic_loss, generator_loss"),
        ("step,loss_d\n1,2\n2,3\n", "holds 2 steps, too few to say anything by; give 20 or more"),
        ("loss_d,note\n1,x\nabc,y\n" + "3,z\n" * 50, "line 3 has 'abc' under loss_d, no number"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_not_healthy(lines: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(lines)
    with pytest.raises(UserError, match=said):
        wgan.doctor(tmp_path / "log.csv")


def test_losses_that_run_away_slowly(tmp_path: Path) -> None:
    """From -3 to -22,000 in 300 lines."""
    rows = [f"{i},{-3 * 2.0 ** (i / 23):.6g}" for i in range(300)]
    (tmp_path / "log.csv").write_text("\n".join(["step,d_loss", *rows]))
    assert [f.name for f in wgan.doctor(tmp_path / "log.csv").findings] == ["divergence-ahead"]
    for unlike in (lambda i: -((i + 1) ** 2), lambda i: -1 if i < 250 else -20):  # a jump
        rows = [f"{i},{unlike(i)}" for i in range(300)]
        (tmp_path / "log.csv").write_text("\n".join(["step,d_loss", *rows]))
        assert wgan.doctor(tmp_path / "log.csv").verdict == "healthy"


def test_a_run_without_its_card_is_no_other_tool(tmp_path: Path) -> None:
    run = tmp_path / "run"
    wgan.train("gaussians8", out=run, **{**TINY, "steps": 2})
    (run / "card.json").unlink()
    with pytest.raises(UserError, match="is not a run directory: it has no card"):
        wgan.doctor(run)


def test_a_script_of_pytorch_and_its_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The columns of the DCGAN tutorial, of a discriminator that wins; other marks; a bad end."""
    path = tmp_path / "log.csv"
    rows = [
        f"{i // 50};{i % 50};{1.3 * 0.98**i:.4f};{2 + i / 99:.3f};0.98;0.01" for i in range(400)
    ]
    path.write_text("\n".join(["epoch;batch;Loss_D;Loss_G;D(x);D(G(z))", *rows]))
    assert main(["doctor", str(path), "--plots", str(tmp_path / "plots")]) == 0
    out = capsys.readouterr().out
    assert "critic-saturated (75% sure)" in out
    assert "JS estimate, step 1 to 400: 0.0" in out
    assert (tmp_path / "plots" / "critic-saturated.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "plots" / "doctor.html").read_text()
    assert "<svg" in page
    assert "To do: --recipe wgan-gp" in page
    path.write_text(
        "step\tD Loss\n" + "\n".join(f"{i}\t{'nan' if i > 80 else 1}" for i in range(99))
    )
    (found,) = wgan.doctor(path).findings
    assert (found.name, found.evidence) == (
        "diverged",
        "`critic_loss` is not finite from step 81 on",
    )
    path.write_text("step,loss_d\n" + "\n".join(f"{i},{-(2.0 ** (i / 9))}" for i in range(300)))
    assert [f.name for f in wgan.doctor(path).findings] == ["divergence-ahead"]
    path.write_text("1,2\n3,4\n")
    with pytest.raises(UserError, match="has no line of names"):
        wgan.doctor(path)


def test_event_files_of_other_tools(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as board:
        for step in range(1, 100):
            board.add_scalar("train/d_grad_norm", 2.0 ** (step / 4), step)
            board.add_scalar("train/step_seconds", 0.1, step)
    found = wgan.doctor(tmp_path)
    names = [finding.name for finding in found.findings]
    assert names == ["divergence-ahead", "exploding-gradient"]


def test_a_rate_that_auto_took_is_not_called_long(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (200, 16, 16), dtype=np.uint8)
    few: dict[str, Any] = {"width": 4, "batch_size": 8, "steps": 1, "audit_every": 0}
    found = []
    rates: dict[str, dict[str, Any]] = {
        "auto": {}, "own": {"lr": 4e-3}, "one": {"critic_lr": 4e-3},
    }  # fmt: skip
    for name, given in rates.items():
        wgan.train(pictures, out=tmp_path / name, **few, **given)
        networks = examine(tmp_path / name, data=pictures).networks
        assert networks is not None
        found.append(networks.first_step)
    assert found[0] == 0.0
    assert found[1] > 0.06
    assert found[2] > 0.06


def test_few_rows_that_are_looked_at_are_not_few_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgan.diagnostics.examination._ROWS", 20)
    rng = np.random.default_rng(0)
    for rows, names in ((200, []), (24, ["few-samples"])):
        data = rng.normal(size=(rows, 3))
        place = tmp_path / str(rows)
        wgan.train(data, out=place, **{**TINY, "batch_size": 4, "steps": 2})
        found = wgan.doctor(place, data=data).findings
        assert [f.name for f in found if f.name == "few-samples"] == names
