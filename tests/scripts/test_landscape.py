import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from scripts import landscape


class Bowl(nn.Module):
    """loss = sum of h w² / 2, whose mean under noise of variance s² is loss + s² tr H / 2."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.h = torch.tensor([1.0, 4.0, 9.0])

    def loss(self):
        return float((self.h * self.w.detach() ** 2).sum() / 2)


def test_noise_raises_a_quadratic_loss_by_half_its_variance_times_the_trace():
    bowl = Bowl()
    before, at_rest = bowl.w.detach().clone(), bowl.loss()
    risen = landscape.perturbed_loss(bowl, bowl.loss, noise=1.0, repeats=20_000) - at_rest
    assert risen == pytest.approx(14 / 2, rel=0.05)
    assert torch.equal(bowl.w.detach(), before)
    rms = (1 + 4 + 0.25) / 3
    risen = landscape.perturbed_loss(bowl, bowl.loss, noise=1.0, repeats=20_000, relative=True) - at_rest
    assert risen == pytest.approx(rms * 14 / 2, rel=0.05)


def test_the_same_draws_for_every_run():
    bowl = Bowl()
    assert landscape.perturbed_loss(bowl, bowl.loss, 0.1, 3) == landscape.perturbed_loss(bowl, bowl.loss, 0.1, 3)
    assert landscape.perturbed_loss(bowl, bowl.loss, 0.1, 3) != landscape.perturbed_loss(
        bowl, bowl.loss, 0.1, 3, seed=1
    )


def test_the_bound_is_of_decayed_weights_only():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.fill_(0.25)
        model.weight[0, 0] = -0.5
        model.bias.fill_(7.0)
    assert landscape.bound(model, "weights", 2.0) == 1.0
    assert landscape.bound(model, "all", 2.0) == 14.0


def test_a_run_is_measured_and_written(tmp_path, capsys):
    root = Path(__file__).resolve().parents[2]
    tiny = ["task=vit_b16", "optim=adamw", "steps=2", "eval_every=2", "batch_size=8", "model.args.depth=1"]
    tiny += ["model.args.embed_dim=16", "model.args.num_heads=2", "tracker=none", f"output_dir={tmp_path / 'out'}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(root / "run.py"), *tiny], check=True, timeout=120, env=environment)
    arguments = [str(tmp_path / "out"), "--task", "vit_b16", "--repeats", "2", "--examples", "20", "--noise", "0.1"]
    arguments += ["--optim", "adamw"]
    assert landscape.main([*arguments, "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "vit_b16.landscape.json").read_text())
    assert [(row["noise"], row["relative"]) for row in written["rows"]] == [(0.1, False), (1.0, True)]
    assert all(row["loss"] > 0 and row["perturbed_loss"] > 0 for row in written["rows"])
    assert landscape.main([*arguments, "--optim", "lion"]) == 2
    assert capsys.readouterr().err == "landscape.py: no runs of lion on vit_b16; there are adamw\n"
    shutil.rmtree(next(tmp_path.rglob("checkpoint")))
    assert landscape.main([*arguments, "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith(": left out")
    assert said[1] == "landscape.py: no chosen run of adamw has a checkpoint"
    assert not (tmp_path / "none").exists()


def test_mistakes(tmp_path, capsys):
    assert landscape.main([str(tmp_path), "--task", "vit_b16"]) == 2
    assert capsys.readouterr().err == "landscape.py: no runs of task vit_b16\n"
    for wrong in (["--noise", "a"], ["--noise", "0"], ["--repeats", "0"]):
        with pytest.raises(SystemExit):
            landscape.main([str(tmp_path), "--task", "vit_b16", *wrong])
