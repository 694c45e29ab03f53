import csv
import importlib.util
import math
import time

import pytest
import torch

from reports.statistics.families import FIELD
from scripts import bench
from scripts.benchmark import contenders


def run(tmp_path, *arguments):
    assert bench.main([*arguments, "--rounds", "2", "--steps", "1", "--out", str(tmp_path)]) == 0


def figures(path):
    return {row["optimizer"]: row for row in csv.DictReader(path.open())}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(bench.MODELS, "one-large-tensor", lambda: [(256, 10), (256,)])
    return "one-large-tensor"


@pytest.mark.parametrize(
    ("name", "theirs"), [("vit_s16", "vit_small_patch16_224"), ("vit_b16", "vit_base_patch16_224")]
)
def test_shapes_of_vits_are_timms(name, theirs):
    import timm

    with torch.device("meta"):
        model = timm.create_model(theirs)
    assert sorted(bench.MODELS[name]()) == sorted(tuple(p.shape) for p in model.parameters())


def test_shapes_of_gpt2_are_transformers():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    assert sorted(bench.MODELS["gpt2_124m"]()) == sorted(tuple(p.shape) for p in model.parameters())


def test_every_contender_steps_or_says_why_not(tiny, tmp_path):
    """In the order of their times; what did not run has a note in place of figures."""
    run(tmp_path, tiny)
    rows = figures(tmp_path / f"{tiny}.csv")
    assert set(bench.contender_names()) <= set(rows)
    packages = {name: module for name, (_, module, _, _) in contenders.LIBRARIES.items()}
    for name, row in rows.items():
        there = name not in packages or importlib.util.find_spec(packages[name].split(".")[0])
        if there:
            assert float(row["ms"]) > 0, row["note"]
        if not there:
            assert row["note"].endswith("is not installed")
            assert not row["ms"]
    assert [float(row["ms"]) for row in rows.values() if row["ms"]] == sorted(
        float(row["ms"]) for row in rows.values() if row["ms"]
    )


def test_figures_that_can_be_worked_out(tiny, tmp_path, capsys):
    """2,816 parameters: bytes of state by hand, and a step that moves 12 bytes a parameter and its state twice."""
    run(tmp_path, tiny, "--optim", "lion,lion-bf16,lion-int8,adamw")
    rows = figures(tmp_path / f"{tiny}.csv")
    size = 2816
    state = {"lion": 4 * size, "lion-bf16": 2 * size, "lion-int8": size + 4 * 11, "adamw-fused": 8 * size}
    for name, expected in state.items():
        row = rows[name]
        assert float(row["state_mb"]) * 1e6 == pytest.approx(expected, abs=1)
        moved = float(row["gb_per_s"]) * 1e9 * float(row["ms"]) / 1e3
        assert moved == pytest.approx(12 * size + 2 * expected, rel=1e-3)
    assert float(rows["adamw-fused"]["ratio"]) == float(rows["adamw"]["ratio"]) == 1
    assert float(rows["stream"]["of_stream"]) == pytest.approx(1)
    assert float(rows["lion"]["peak_mb"]) == 0
    assert float(rows["adamw"]["peak_mb"]) > 0
    told = capsys.readouterr().out
    assert "ratio to AdamW with the same step" in told
    markdown = (tmp_path / f"{tiny}.md").read_text()
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 2 + len(rows)
    assert (tmp_path / f"{tiny}.png").read_bytes().startswith(b"\x89PNG")


# Bytes of state of a tensor by its shape, as each method's paper and its file say; `matrix`: of a layer between others.
STATE = {
    "adamw": lambda shape, matrix: 8 * math.prod(shape),
    "muon": lambda shape, matrix: (4 if matrix else 8) * math.prod(shape),
    "muon_lion": lambda shape, matrix: (4 if matrix else 2) * math.prod(shape),
    "lion_muon": lambda shape, matrix: (4 if matrix else 8) * math.prod(shape),
    # Two moments, and for each axis of n a preconditioner and its eigenvectors, n x n.
    "soap": lambda shape, matrix: 8 * (math.prod(shape) + (len(shape) > 1) * sum(n * n for n in shape)),
    "schedule_free_adamw": lambda shape, matrix: 8 * math.prod(shape),
    "ademamix": lambda shape, matrix: 12 * math.prod(shape),
    "mars": lambda shape, matrix: 12 * math.prod(shape),
    "adopt": lambda shape, matrix: 8 * math.prod(shape),
    # A moment, and for each axis of n a triangular factor n x n; of a vector and an axis of one a diagonal.
    "kron": lambda shape, matrix: (
        4 * (math.prod(shape) + sum(n if len(shape) == 1 or n == 1 else n * n for n in shape))
    ),
    "prodigy": lambda shape, matrix: 16 * math.prod(shape),
    "cautious_lion": lambda shape, matrix: 2 * math.prod(shape),
    "lion_cautious_decay": lambda shape, matrix: 2 * math.prod(shape),
    "lion_corrected_decay": lambda shape, matrix: 2 * math.prod(shape),
}


def test_the_field_is_timed_and_keeps_what_its_papers_say(monkeypatch, tmp_path):
    """On a ViT of one block: patches, position embedding, class token and head are no matrices to Muon."""
    shapes = contenders.vit(16, depth=1)
    monkeypatch.setitem(bench.MODELS, "vit_s16", lambda: shapes)
    run(tmp_path, "vit_s16", "--optim", ",".join(STATE))
    rows = figures(tmp_path / "vit_s16.csv")
    assert {"adamw", *FIELD} == set(STATE)
    for name, of_tensor in STATE.items():
        assert float(rows[name]["ms"]) > 0, rows[name]["note"]
        expected = sum(of_tensor(shape, len(shape) == 2 and shape[0] != 1000) for shape in shapes)
        per_parameter = expected / sum(map(math.prod, shapes))
        assert float(rows[name]["bytes_per_parameter"]) == pytest.approx(per_parameter, rel=1e-5), name


def test_each_is_compared_with_what_steps_alike(tiny, tmp_path, capsys):
    """Fused with fused, loop with loop; or all with one, where that is asked for."""
    run(tmp_path, tiny, "--optim", "lion,lion-plain,lion-lists,sgd,signum")
    rows = figures(tmp_path / f"{tiny}.csv")
    result = {name: (row["step"], row["against"]) for name, row in rows.items()}
    assert result == {
        "lion": ("fused", "adamw-fused"),
        "signum": ("fused", "adamw-fused"),
        "adamw-fused": ("fused", "adamw-fused"),
        "lion-lists": ("foreach", "adamw-foreach"),
        "adamw-foreach": ("foreach", "adamw-foreach"),
        "lion-plain": ("loop", "adamw"),
        "sgd": ("foreach", "adamw-foreach"),
        "adamw": ("loop", "adamw"),
        "stream": ("", "adamw-fused"),
    }
    run(tmp_path, tiny, "--optim", "lion,sgd", "--reference", "lion-plain")
    rows = figures(tmp_path / f"{tiny}.csv")
    assert {row["against"] for row in rows.values()} == {"lion-plain"}
    assert float(rows["lion-plain"]["ratio"]) == 1
    assert "ratio to lion-plain" in capsys.readouterr().out


def test_the_step_that_is_named_is_the_one_that_is_taken(tiny):
    """By the flags of the optimizer that is made."""
    weight = torch.nn.Parameter(torch.zeros(3))
    for name in ("lion", "lion-plain", "lion-lists", "adamw-fused", "adamw-foreach", "adamw", "timm", "radam"):
        group = bench.contender(name, [weight]).param_groups[0]
        named = next((kind for kind in ("fused", "foreach") if group.get(kind)), "loop")
        assert bench.kind_of_step(name) == named


@pytest.mark.parametrize(
    ("name", "kind"),
    [  # as their sources are written: operations on lists, Lion's kernel, or a loop over parameters
        ("schedule_free_adamw", "foreach"),
        ("ademamix", "foreach"),
        ("lion_cautious_decay", "fused"),
        ("cautious_lion", "loop"),  # takes a mean before a weight moves (docs/lion.md)
        ("muon", "loop"),
        ("soap", "loop"),
        ("kron", "loop"),
        ("mars", "loop"),
        ("nadam", "foreach"),
    ],
)
def test_the_kind_of_a_step_is_told_by_its_operations(name, kind):
    assert bench.kind_of_step(name) == kind


def test_peak_memory_is_what_was_alive_at_once():
    kept = torch.zeros(1000)

    def step():
        for _ in range(3):
            a = kept + 1  # 4,000 bytes
            b = a * 2  # and as many; both end with the turn
            kept.add_(b)
            del a, b

    assert bench.allocated(step) == 8000
    assert bench.allocated(lambda: kept.add_(1)) == 0


def test_a_training_step(tmp_path, monkeypatch):
    weight = torch.nn.Parameter(torch.ones(300))
    computed = []

    def gradients():
        computed.append(1)
        weight.grad = torch.ones(300)
        time.sleep(0.002)

    monkeypatch.setattr(bench, "training", lambda model, batch_size: ([weight], gradients))
    run(tmp_path, "vit_s16", "--train", "--optim", "lion,adamw-fused")
    rows = figures(tmp_path / "vit_s16-train.csv")
    assert set(rows) == {"lion", "adamw-fused", "forward and backward"}
    assert all(float(row["ms"]) >= 2 for row in rows.values())
    assert len(computed) == 1 + 2 * 3  # one before the first steps, then two rounds of three


@pytest.mark.parametrize("model", ["vit_s16", "gpt2_124m"])
def test_gradients_of_a_real_model(model, monkeypatch):
    """Small twins of the models, by the same call."""
    import timm

    if model == "vit_s16":
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name: create(name, embed_dim=12, depth=1, num_heads=1))
    else:
        transformers = pytest.importorskip("transformers")
        small = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1)
        monkeypatch.setattr(transformers, "GPT2Config", lambda: small)
    params, gradients = bench.training(model, 1)
    gradients()
    assert all(p.grad is not None and math.isfinite(p.grad.sum()) for p in params)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["vit_s17"], "vit_s16, vit_b16"),
        (["vit_s16", "--optim", "lino"], "lion-bf16"),
        (["many-small-tensors", "--train"], "--train takes vit_s16"),
        (["vit_s16", "--rounds", "1"], "--rounds must be at least 2, not 1"),
        (["vit_s16", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["vit_s16", "--threads", "-3"], "--threads must be at least 1, not -3"),
        (["vit_s16", "--steps", "0"], "--steps must be at least 1, not 0"),
        (["vit_s16", "--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["vit_s16", "--seconds", "-5"], "--seconds must be above 0, not -5"),
        (["vit_s16", "--seconds", "nan"], "--seconds must be above 0, not nan"),
        (["vit_s16", "--out", __file__], "File exists; choose another folder"),
        (["vit_s16", "--out", f"{__file__}/bench"], "Not a directory; choose another folder"),
        (["vit_s16", "--reference", "foo"], "no optimizer foo; there are lion, "),
    ],
    ids=str,
)
def test_mistakes_are_one_line(arguments, named, capsys, monkeypatch):
    """Before anything is measured."""
    if "--train" not in arguments:
        monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("it measured"))
    assert bench.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_too_little_memory_is_said_before_it_is_used(monkeypatch, capsys):
    monkeypatch.setitem(bench.MODELS, "one-large-tensor", lambda: [(10,)])
    monkeypatch.setattr(bench.os, "sysconf", lambda name: 1)
    assert bench.main(["one-large-tensor"]) == 2
    assert "choose some with --optim" in capsys.readouterr().err


def test_by_default_as_many_as_the_memory_holds(monkeypatch, capsys):
    monkeypatch.setattr(bench.os, "sysconf", lambda name: 1000)  # a million bytes
    names = ["adamw-fused", "lion", "timm", "sgd"]
    assert bench.affordable(names, 250_000, chosen=False) == names
    assert bench.affordable(names, 400_000, chosen=False) == names[:2]
    assert "left out, since 4 optimizers may keep 0 GB of state" in (told := capsys.readouterr().out)
    assert "timm, sgd" in told
    for state, chosen in ((400_000, True), (600_000, False)):
        with pytest.raises(bench.BenchError, match="choose some with --optim"):
            bench.affordable(names, state, chosen=chosen)


@pytest.mark.parametrize(
    ("name", "triton", "kind"), [("lion", True, "fused"), ("lion", False, "loop"), ("lion-int8", True, "loop")]
)
def test_the_kernel_on_a_gpu_needs_triton_and_has_no_int8(monkeypatch, name, triton, kind):
    monkeypatch.setattr(contenders, "find_spec", lambda _: triton or None)
    contenders.kind_of_step.cache_clear()
    try:
        assert contenders.kind_of_step(name, "cuda") == kind
    finally:
        contenders.kind_of_step.cache_clear()
