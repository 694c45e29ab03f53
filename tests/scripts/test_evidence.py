"""scripts/evidence.py and scripts/suggest.py: what they write and print, and what docs/evidence.md says of it."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.errors import ConfigError
from scripts import evidence, suggest

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "reports" / "evidence"
PUBLISHED = ROOT / "reports" / "published" / "evidence"
ASKED = ["--adamw-lr", "3e-4", "--adamw-weight-decay", "0.1"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    assert evidence.main(["--out", str(folder)]) == 0
    return folder


def table(name: str) -> list[dict[str, str]]:
    with (PUBLISHED / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_files_give_the_same_bytes_as_are_published(written: Path) -> None:
    names = sorted(path.name for path in written.iterdir())
    assert names == sorted(path.name for path in PUBLISHED.iterdir())
    for name in names:
        assert (written / name).read_bytes() == (PUBLISHED / name).read_bytes(), name


def test_check_notices_a_changed_file(written: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    assert evidence.main(["--out", str(copy), "--check"]) == 0
    (copy / "rules.csv").write_text("of\n")
    assert evidence.main(["--out", str(copy), "--check"]) == 1
    assert "rules.csv is not what the ledger and the records give" in capsys.readouterr().err


def test_another_process_and_order_of_hashes_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    code = "import sys; from scripts import evidence; code = evidence.main(sys.argv[1:]); "
    code += "sys.exit(code or any(name in sys.modules for name in ('torch', 'transformers', 'matplotlib')))"
    assert run("-c", code, "--out", str(tmp_path)).returncode == 0, "the same, without heavy imports"
    for path in written.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_summary_names_every_study_contradiction_and_claim(tmp_path: Path, capsys) -> None:
    evidence.main(["--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for row in table("studies.csv"):
        assert f"  {row['study']}: {row['rows']} rows" in printed
    for row in table("claims.csv"):
        assert row["claim"] in printed
    for row in table("statements.csv"):
        assert (row["own figures"] in printed) == (row["verdict"] != "agrees")


@pytest.mark.parametrize("script", ["evidence.py", "suggest.py"])
def test_help_says_what_it_does(script: str) -> None:
    shown = run(f"scripts/{script}", "--help")
    assert shown.returncode == 0
    assert f"python scripts/{script}" in shown.stdout


def test_a_bad_row_ends_as_one_line(tmp_path: Path) -> None:
    shutil.copytree(LEDGER, tmp_path / "ledger")
    path = tmp_path / "ledger" / "studies" / "nanoT5.csv"
    path.write_text(path.read_text().replace(",min,", ",lowest,", 1))
    for command in (["scripts/evidence.py", "--out", str(tmp_path / "out")], ["scripts/suggest.py", *ASKED]):
        ended = run(*command, "--ledger", str(tmp_path / "ledger"))
        assert ended.returncode == 1
        assert ended.stderr == f"error: {path}, row 2: goal is 'lowest'; expected one of min, max\n"
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_ends_as_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="out: no folder; choose another place"):
        evidence.main(["--out", str(tmp_path / "out")])


def test_a_missing_folder_of_records_ends_as_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none: no such folder; expected run records"):
        evidence.main(["--records", str(tmp_path / "none"), "--out", str(tmp_path)])


def test_a_suggestion_says_what_it_rests_on_and_what_to_type(capsys) -> None:
    assert (
        suggest.main([*ASKED, "--betas", "0.9", "0.95", "--batch", "256", "--steps", "20000", "--domain", "language"])
        == 0
    )
    printed = capsys.readouterr().out
    assert re.match(r"Lion's centre: lr 5.5e-05, weight decay \S+, betas 0.9 0.95\n", printed)
    used = {row["of"]: row for row in table("rules.csv") if row["used"]}
    for name, row in (("learning rate", used["rate"]), ("weight decay", used["decay"])):
        within = row["within half a decade"].partition(" (")[0]
        assert f"{name}: within half a decade in {within} tuned pairs" in printed
    assert len(re.findall(r"^  lr \S+ +weight decay", printed, flags=re.MULTILINE)) == 9
    assert "the memory 1/(1 - beta2) 20 is outside the tuned pairs' range, 50 to 1,000" in printed


def test_the_sweep_to_type_is_one_that_the_suite_takes(capsys) -> None:
    """The plan of the printed command has the trials that were printed."""
    suggest.main([*ASKED, "--batch", "64", "--steps", "100", "--domain", "images"])
    printed = capsys.readouterr().out
    (line,) = re.findall(r"^sweep: (.*)$", printed, flags=re.MULTILINE)
    planned = subprocess.run(
        f"{line.replace('python', sys.executable, 1)} plan=true", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert planned.returncode == 0, planned.stderr
    rates, decays = re.search(r"lr ([^;]*); weight decay ([^(]*) \(", planned.stdout).groups()
    trials = re.findall(r"^  lr (\S+) +weight decay (\S+)", printed, flags=re.MULTILINE)
    assert {rate for rate, _ in trials} == set(rates.split(", "))
    assert {decay for _, decay in trials} == set(decays.split(", "))


def test_impossible_values_end_as_a_line_each() -> None:
    ended = run("scripts/suggest.py", "--adamw-lr", "0", "--adamw-weight-decay", "-1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: --adamw-lr is 0; expected")
    assert len(ended.stderr.splitlines()) == 2


def sentences() -> list[str]:
    """What docs/evidence.md has to say, from the published files."""
    differences, studies = table("differences.csv"), table("studies.csv")
    readings = [row["reading"] for row in differences]
    valued = [reading for reading in readings if reading != "settings only"]
    bare = [reading for reading in valued if reading.endswith("no interval")]
    for_lion = [r for r in differences if r["reading"] == "Lion ahead, no interval"]
    said = [
        f"{sum(int(row['rows']) for row in studies):,} rows of {len(studies)} studies give {len(readings)} pairs of "
        f"Lion and its baseline, {len(valued)} of them with figures.",
        f"{readings.count('Lion ahead')} difference favours Lion, {readings.count('baseline ahead')} favour AdamW, and "
        f"{readings.count('not told apart')} are not told apart",
        f"The other {len(bare)} are signs without an interval, {len(for_lion)} for Lion, "
        f"{sum(r['study'] == 'lion-paper' for r in for_lion)} of these the Lion paper's.",
    ]
    claims = {row["id"]: row for row in table("claims.csv")}

    def of(name: str) -> str:
        row = claims[name]
        return f"{row['for']} of {sum(int(row[side]) for side in ('for', 'against', 'neither'))}"

    language, batch = claims["better_on_language"], claims["batch_size"]
    said += [
        f"Lion is ahead in {language['for']} pairs, behind in {language['against']} and not told apart in "
        f"{language['neither']}.",
        f"3 to 10 times smaller in {of('lower_lr')}, the decay 3 to 10 times larger in {of('higher_weight_decay')}, "
        f"and their product is within a factor of two in {of('product_kept')}.",
        f"In {of('close_to_divergence')} sweeps of the rate",
        f"gains with the batch in {batch['for']} sweep and loses in {batch['against']} of "
        f"{of('batch_size').split()[2]}.",
    ]
    change = re.search(r"130M \+(\S+) at 1x Chinchilla to -(\S+) at 8x", claims["catches_up"]["counted"])
    said.append(f"from {change[1]} behind AdamW to {change[2]} ahead")
    held = [row["own figures"] for row in table("statements.csv")]
    (marin,) = [re.search(r"-(\S+) by the rows, \+(\S+) by the statement", text) for text in held if "3.1041" in text]
    said.append(f"by the rows Lion is {marin[1]} ahead at 520M, by the stated figure {marin[2]} behind.")
    muon = next(text for text in held if text.startswith("behind on"))
    said.append(f"{re.match(r'behind on . of .', muon)[0]} model and data sets, both WikiText")
    assert muon.endswith("on 0 by the lowest seen")
    rules = {(row["rule"], row["of"]): row for row in table("rules.csv")}
    shares = {key: row["within half a decade"].partition(" (")[0] for key, row in rules.items()}
    thumbs = [rule for (rule, axis), row in rules.items() if row["kind"] == "rule of thumb" and axis == "rate"]
    said += [f"| {rule} | {shares[rule, 'rate']} | {shares[rule, 'decay']} |" for rule in thumbs]
    best = [
        max((s for (r, a), s in shares.items() if a == axis and r not in thumbs), key=lambda s: int(s.split()[0]))
        for axis in ("rate", "decay")
    ]
    said.append(f"| best fitted rule | {best[0]} | {best[1]} |")
    used = {axis: rule for (rule, axis), row in rules.items() if row["used"]}
    assert used["rate"] == thumbs[2], "the documentation says which rule is used"
    said.append(f"for the decay {used['decay']}, which was right in {shares[used['decay'], 'decay']}")
    worst = [rules[rule, "decay"]["worst error, decades"] for rule in (used["decay"], thumbs[2])]
    said.append(f"({worst[0]} decades at worst" + (f" against {worst[1]})" if used["decay"] != thumbs[2] else ")"))

    def elsewhere(rule: str) -> str:
        row = rules[rule, "rate"]
        counts = [row[s["study"]].split(" of ") for s in studies if s["study"] != "lion-paper" and row.get(s["study"])]
        counts.append(row["lion-bench"].split(" of "))
        return f"{sum(int(within) for within, _ in counts)} of {sum(int(total) for _, total in counts)}"

    said.append(
        f"in {elsewhere(thumbs[2])} rates, compared with {elsewhere(thumbs[1])} for a third and "
        f"{elsewhere(thumbs[0])} for a tenth."
    )
    page = (PUBLISHED / "README.md").read_text()
    edges, closed = re.search(r"In (\d+) pairs a rate lies on the edge.*?is right in (\d+ of \d+)\. In", page).groups()
    said += [f"in {edges} of Marin's 12 pairs", f"the rule is right in {closed} rates."]
    marin = [row for row in differences if row["study"].startswith("marin")]
    assert sum("rate of" in row["best value on the edge"] for row in marin) == int(edges)
    large = [row["best value on the edge"] for row in marin if row["parameters"] == "520M"]
    assert all("rate of baseline" in text for text in large), "AdamW's at 520M in all"
    costs = {
        row["rule"]: row["median cost"]
        for row in table("regrets.csv")
        if row["study"].startswith("marin") and row["of"] == "rate"
    }
    said.append(f"(median {costs[thumbs[0]]} against {costs[thumbs[2]]} nats)")
    return said


def test_the_documentations_figures_are_those_of_the_files() -> None:
    text = " ".join((ROOT / "docs" / "evidence.md").read_text().split())
    missing = [sentence for sentence in sentences() if sentence not in text]
    assert not missing
    rules = {(row["rule"], row["of"]): row for row in table("rules.csv")}
    thumb = rules["the paper's text, the middle of 3 to 10 times", "decay"]
    guide = " ".join((ROOT / "docs" / "guide.md").read_text().split())
    marin, ours = thumb["marin-fantastic-optimizers"], thumb["lion-bench"]
    assert f"for the decay in {marin} of another study and in {ours} of ours" in guide
    assert (rate := re.search(r"in (\d+ of \d+) rates, compared with", text)) is not None
    assert f"rule was within that in {rate[1]} cases for the rate;" in guide


def test_the_documentation_names_every_column() -> None:
    from reports.evidence.schema import RUNS

    text = (ROOT / "docs" / "evidence.md").read_text()
    rows = re.findall(r"^\| ([a-z_, 12]+) \| ", text.partition("| column | what it holds |")[2], flags=re.MULTILINE)
    assert [name for row in rows for name in row.split(", ")] == list(RUNS)
