import json

import pytest

from recipes.bare import BareLoop
from scripts import speed


class Fixed(BareLoop):
    """A contender whose blocks take a known time."""

    def __init__(self, seconds):
        self.seconds, self.calls = seconds, 0

    def steps(self, number):
        self.calls += 1
        return self.seconds * number, self.seconds * number / 2

    def state_bytes(self):
        return 8


def test_ratios_are_to_the_reference_in_the_same_round():
    found = speed.measure({"adamw": Fixed(0.02), "lion": Fixed(0.016)}, "adamw", rounds=5, block=10)
    assert found["adamw"]["ratio"] == 1
    assert found["lion"]["ratio"] == found["lion"]["low"] == found["lion"]["high"] == pytest.approx(1.25)
    assert found["lion"]["steps_per_second"] == pytest.approx(62.5)
    assert found["lion"]["optimizer_step_ms"] == pytest.approx(8)


def test_each_takes_its_turn_first():
    order = []

    class Noted(Fixed):
        def steps(self, number):
            order.append(self.seconds)
            return super().steps(number)

    speed.measure({str(i): Noted(i) for i in (1, 2, 3)}, "1", rounds=3, block=1)
    assert order[3:] == [1, 2, 3, 2, 3, 1, 3, 1, 2]  # after one block each to warm up


def test_a_real_timing_is_written(tmp_path, capsys):
    # 0.31 MB of bfloat16 momentum for the decayed and the other parameters, against two float32 moments
    arguments = ["task=vit_b16", "optim=lion", "batch_size=4", "--rounds", "2", "--block", "1", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    written = json.loads((tmp_path / "vit_b16.speed.json").read_text())
    optimizers = written["optimizers"]
    assert list(optimizers) == ["adamw", "lion"]
    assert optimizers["adamw"]["state_bytes"] == 4 * optimizers["lion"]["state_bytes"]
    assert all(figures["steps_per_second"] > 0 for figures in optimizers.values())
    assert "lion" in capsys.readouterr().out


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


@pytest.mark.parametrize("override", ["task=vit_b17", "optim=lino", "optim.lr=-1"])
def test_mistakes_are_one_line(tmp_path, capsys, override):
    assert speed.main([override, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
