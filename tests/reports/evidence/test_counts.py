"""What others found on a claim, counted from rows."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from recipes.errors import ConfigError
from reports.evidence import counts, ledger
from reports.evidence.counts import COUNTS, evaluate
from reports.evidence.pairs import pairs

ROOT = Path(__file__).resolve().parents[3]
EVIDENCE = ROOT / "reports" / "evidence"


@pytest.fixture(scope="module")
def claims():
    return {claim.id: claim for claim in evaluate(ledger.read())}


@pytest.fixture(scope="module")
def marin() -> pd.DataFrame:
    table = pd.read_csv(EVIDENCE / "studies" / "marin-fantastic-optimizers.csv")
    return table[table["optimizer"].isin(["AdamW", "Lion"])]


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the lowest loss of each size, length and optimizer that both ran at."""
    rows = table.loc[table.groupby(["parameters", "variant", "optimizer"])["value"].idxmin()]
    wide = rows.set_index(["parameters", "variant", "optimizer"]).unstack("optimizer")
    return wide[wide["value"].notna().all(axis="columns")]


def test_ratios_of_tuned_settings_by_pandas(claims, marin: pd.DataFrame) -> None:
    rows = chosen(marin)
    rates = rows["lr"]["AdamW"] / rows["lr"]["Lion"]
    decays = rows["weight_decay"]["Lion"] / rows["weight_decay"]["AdamW"]
    scripts = [1.0, 2.0, 5.0, 2.0]  # the rates of arXiv 2509.01440's scripts, AdamW's 1e-3 over Lion's
    counted = claims["lower_lr"].counts
    assert counted.supports == sum((rates >= 2.999) & (rates <= 10.001)) + sum(3 <= rate <= 10 for rate in scripts)
    assert counted.total == len(rates) + len(scripts) == 16
    counted = claims["higher_weight_decay"].counts
    assert (counted.supports, counted.total) == (sum((decays >= 2.999) & (decays <= 10.001)), 12)
    products = decays / rates
    counted = claims["product_kept"].counts
    assert (counted.supports, counted.total) == (sum(products.between(0.499, 2.001)), 12)


def test_longer_training_by_hand(claims) -> None:
    """130M comes from 0.0200 behind to 0.0098 ahead; 300M and 520M change by less than twice 0.003."""
    counted = claims["catches_up"].counts
    assert (counted.supports, counted.contradicts, counted.neither) == (1, 0, 2)
    assert "130M +0.0200 at 1x Chinchilla to -0.0098 at 8x Chinchilla" in counted.words
    betas = claims["longer_beta2"].counts
    assert (betas.supports, betas.contradicts, betas.neither) == (2, 0, 1)


@pytest.mark.parametrize(
    ("last", "noise", "expected"),
    [("3.01", 0.004, (1, 0, 0)), ("3.01", 0.006, (0, 0, 1)), ("3.03", 0.004, (0, 1, 0)), ("3.02", 0.0, (0, 0, 1))],
)
def test_a_change_with_length_counts_beyond_twice_the_noise(write_ledger, last: str, noise: float, expected) -> None:
    """Lion is 0.02 behind in the short training; in the one of 10x the size it is behind by what is given."""
    rows = [
        {"optimizer": optimizer, "variant": variant, "value": value}
        for variant, of_lion in (("10x long", last), ("2x short", "3.02"))
        for optimizer, value in (("AdamW", "3.0"), ("Lion", of_lion))
    ]
    counted = counts.catches_up(found_in(write_ledger, rows, noise=noise))
    assert (counted.supports, counted.contradicts, counted.neither) == expected


def test_divergence_by_pandas(claims, marin: pd.DataFrame) -> None:
    """Along the rate, from the rows whose note says so: lost by more than a nat at most four times the best rate."""
    expected = 0
    for _, rows in marin.groupby(["parameters", "variant", "optimizer"]):
        if rows["variant"].iloc[0].startswith("16x"):
            continue
        line = rows[rows["note"].str.startswith(("centre", "one coordinate changed: learning_rate"))]
        losses = line.groupby("lr")["value"].min().fillna(99.0)
        if len(losses) >= 3 and (rows["parameters"] != "1.2B").all():
            best = losses.idxmin()
            above = losses[(losses.index > best) & (losses > losses.min() + 1)]
            assert len(above)
            assert above.index[0] <= 4.001 * best
            expected += 1
    assert claims["close_to_divergence"].counts.supports == expected == 12


def rows_of(optimizer: str, name: str, values: dict[float, float | None], **more: str) -> list[dict[str, str]]:
    return [
        {"optimizer": optimizer, name: f"{at:g}", "value": "" if loss is None else str(loss)} | more
        for at, loss in values.items()
    ]


def found_in(write_ledger, rows, **entry):
    return pairs(ledger.read(write_ledger(rows, **entry)))


def test_a_sweep_that_goes_far_and_never_diverges_is_against(write_ledger) -> None:
    rows = rows_of("Lion", "lr", {1e-3: 3.0, 2e-3: 3.1, 8e-3: 3.2}) + rows_of(
        "AdamW", "lr", {1e-3: 3.0, 2e-3: 3.1, 3e-3: None, 64e-3: 9.0}
    )
    counted = counts.close_to_divergence(found_in(write_ledger, rows), times=4)
    assert (counted.supports, counted.contradicts) == (1, 1)
    assert counted.words == "first divergence at 3 times the best rate"


def test_equal_decay_is_read_from_lions_sweep(write_ledger) -> None:
    baseline = [{"optimizer": "AdamW", "weight_decay": "0.1", "value": "3.0"}]
    for losses, expected in (
        ({0.1: 3.2, 0.3: 3.1, 1.0: 3.0}, (1, 0, 0)),
        ({0.1: 3.0, 0.3: 3.1, 1.0: 3.2}, (0, 0, 1)),
        ({0.1: 3.2, 0.05: 3.0, 1.0: 3.3}, (0, 1, 0)),
        ({0.3: 3.0, 0.5: 3.1, 1.0: 3.2}, (0, 0, 0)),
    ):
        counted = counts.equal_decay(found_in(write_ledger, baseline + rows_of("Lion", "weight_decay", losses)))
        assert (counted.supports, counted.contradicts, counted.neither) == expected
    assert counted.words == "1 more sweeps tried larger decays alone"


def test_batch_gain_compares_the_ends_that_both_ran(write_ledger) -> None:
    steps = {64: "1000", 256: "250", 1024: "60"}
    rows = []
    for optimizer, losses in (("AdamW", {64: 3.0, 256: 3.1, 1024: 3.4}), ("Lion", {64: 3.1, 256: 3.1, 1024: 9.0})):
        rows += [
            {"optimizer": optimizer, "batch": str(at), "steps": steps[at], "value": str(loss)}
            for at, loss in losses.items()
        ]
    counted = counts.batch_gain(found_in(write_ledger, rows))  # Lion diverged at 1024
    assert (counted.supports, counted.contradicts) == (1, 0)
    assert "+0.1000 at 64 to +0.0000 at 256" in counted.words
    assert counts.batch_gain(found_in(write_ledger, rows, noise=0.06)).neither == 1


def test_equal_decay_pairs_are_those_of_one_decay(write_ledger) -> None:
    rows = [{"optimizer": "AdamW"}, {"optimizer": "Lion", "value": "3.5"}]
    assert counts.behind_at_equal_decay(found_in(write_ledger, rows)).supports == 1
    rows[1]["weight_decay"] = "1"
    assert counts.behind_at_equal_decay(found_in(write_ledger, rows)).total == 0


def test_the_papers_own_pairs_are_no_evidence_for_its_claims(claims) -> None:
    assert claims["better_on_vit"].counts.total == 2
    assert claims["better_on_image_text"].counts.words.endswith("2 posted by an author of the Lion paper")


def test_claims_of_the_suite_exist_there_and_every_count_is_used() -> None:
    suite = {entry["id"] for entry in yaml.safe_load((ROOT / "reports" / "claims" / "claims.yaml").read_text())}
    entries = yaml.safe_load((EVIDENCE / "claims.yaml").read_text())
    assert {entry["suite"] for entry in entries if "suite" in entry} <= suite
    assert {entry["id"] for entry in entries} & suite <= {entry.get("suite") for entry in entries}
    assert {entry["count"] for entry in entries if "count" in entry} == set(COUNTS)
    assert len({entry["id"] for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"id": "a"}, "expected a mapping with an id and a claim"),
        ({"id": "a", "claim": "b"}, "neither a count nor statements"),
        ({"id": "a", "claim": "b", "count": "guess"}, "count is 'guess'; known: ahead"),
        ({"id": "a", "claim": "b", "count": "ahead", "within": 1}, "within is unknown; ahead takes"),
        ({"id": "a", "claim": "b", "count": "alike"}, "alike needs models, within"),
        ({"id": "a", "claim": "b", "statements": [{"says": "x"}]}, "a statement has says, source and for"),
    ],
)
def test_a_fault_of_a_claim_is_one_line(tmp_path, entry: dict[str, object], says: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entry]))
    with pytest.raises(ConfigError, match=says) as raised:
        evaluate(ledger.read(), path)
    assert str(raised.value).startswith(f"{path}, claim 1: ")
