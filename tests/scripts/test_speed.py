import json

import pytest
import torch

from lion import Lion
from recipes.distributed import bf16_on_cpu
from recipes.minimal_loop import MinimalLoop, Rounds
from recipes.settings import schema
from reports.records.speeds import read_speeds
from scripts import speed
from scripts.benchmark.device import training_speed


class Fixed(MinimalLoop):
    """A contender whose blocks take a known time."""

    def __init__(self, seconds):
        self.seconds, self.calls = seconds, 0

    def steps(self, number):
        self.calls += 1
        return self.seconds * number, self.seconds / 2

    def state_bytes(self):
        return 8


def test_ratios_are_to_the_reference_in_the_same_round():
    contenders = {"adamw": Fixed(0.02), "lion": Fixed(0.016), "other": Fixed(0.01)}
    result = speed.measure(contenders, {"adamw": "adamw", "lion": "adamw"}, rounds=5, block=10)
    assert result["adamw"]["ratio"] == 1
    assert (result["lion"]["against"], result["other"]["ratio"]) == ("adamw", None)
    assert result["lion"]["ratio"] == result["lion"]["low"] == result["lion"]["high"] == pytest.approx(1.25)
    assert result["lion"]["steps_per_second"] == pytest.approx(62.5)
    assert result["lion"]["optimizer_step_ms"] == pytest.approx(8)


def test_each_takes_its_turn_first():
    order = []

    class Noted(Fixed):
        def steps(self, number):
            order.append(self.seconds)
            return super().steps(number)

    speed.measure({str(i): Noted(i) for i in (1, 2, 3)}, {}, rounds=3, block=1)
    assert order[3:] == [1, 2, 3, 2, 3, 1, 3, 1, 2]  # after one block each to warm up


def test_a_real_timing_is_written_and_like_is_held_against_like(tmp_path, capsys):
    # 0.31 MB of bfloat16 momentum for the decayed and the other parameters, against two float32 moments
    names = "task=vit_b16", "optim=lion,nadam", "batch_size=4"
    assert speed.main([*names, "--rounds", "2", "--block", "1", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "vit_b16.speed.json").read_text())
    optimizers = written["optimizers"]
    kinds = {label: figures["against"] for label, figures in optimizers.items()}
    assert kinds == {
        "adamw (fused)": "adamw (fused)",
        "adamw (loop)": "adamw (loop)",
        "lion (fused)": "adamw (fused)",
        "lion (loop)": "adamw (loop)",
        "nadam (foreach)": "adamw (foreach)",
        "adamw (foreach)": "adamw (foreach)",
    }
    assert optimizers["adamw (fused)"]["state_bytes"] == 4 * optimizers["lion (fused)"]["state_bytes"]
    assert optimizers["lion (fused)"]["state_bytes"] == 2 * written["trained_parameters"]
    assert all(figures["steps_per_second"] > 0 for figures in optimizers.values())
    said = capsys.readouterr()
    assert "lion (fused)" in said.out
    speeds = read_speeds([tmp_path])
    assert len(speeds) == len(optimizers)
    assert speeds["ratio"].notna().all()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda p: torch.optim.AdamW(p, fused=True), "fused"),
        (lambda p: torch.optim.AdamW(p, foreach=True), "foreach"),
        (lambda p: torch.optim.AdamW(p, foreach=False), "loop"),
        (lambda p: Lion(p, fused=False), "loop"),
        (lambda p: Lion(p, foreach=True), "foreach"),
    ],
)
def test_the_kind_of_a_step_is_told_by_what_runs(make, kind):
    class Small(MinimalLoop):
        def __init__(self):
            self.model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
            self.optimizer, self.done = make(self.model.parameters()), 0

        def _gradients(self):
            self.model(torch.ones(2, 4)).sum().backward()

    assert Small().step_kind() == kind


def test_progress_is_said_elsewhere_than_on_a_terminal(capsys):
    rounds = Rounds(3, every=0.0)
    for number in (1, 2, 3):
        rounds.done(number)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["round 1/3", "round 2/3", "round 3/3"]


def test_two_settings_of_one_run_are_held_against_each_other(tmp_path, capsys):
    """Eight times the images take longer: the run as given is the faster one, and no table is touched."""
    arguments = ["task=vit_b16", "batch_size=8", "--against", "batch_size=64", "--rounds", "3", "--block", "2"]
    assert speed.main([*arguments, "--out", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2][0] == "batch_size=64"
    assert rows[3][:2] == ["as", "given"]
    assert float(rows[2][2]) == 1
    assert float(rows[3][3]) > 1.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("task", "precision"), [("gpt2_small", "bf16"), ("vit_b16", "fp32")])
@pytest.mark.parametrize("timed", [MinimalLoop, lambda cfg: training_speed(cfg, torch.device("cpu"), 2, steps=1)])
def test_what_is_timed_multiplies_as_a_run_does(timed, task, precision, monkeypatch):
    """On a CPU without instructions for bfloat16 that is in float32, several times as fast."""
    replaced = []
    monkeypatch.setattr(bf16_on_cpu, "has_slow_products", lambda: True)
    monkeypatch.setattr(bf16_on_cpu, "multiply_in_float32", lambda: replaced.append(task) or True)
    timed(schema.composed([f"task={task}", f"precision={precision}", "optim=adamw"]))
    assert replaced == ([task] if precision == "bf16" else [])


@pytest.mark.parametrize("override", ["task=vit_b17", "optim=lino", "optim.lr=-1"])
def test_mistakes_are_one_line(tmp_path, capsys, override):
    assert speed.main([override, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
