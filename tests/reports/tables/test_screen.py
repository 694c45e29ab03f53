from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.screen import progress, screen


def tables(outputs):
    return build_tables(read_records([outputs]).runs, "adamw")


def test_a_row_an_optimizer_with_its_figure_difference_verdict_and_state(tune, outputs):
    tune("adamw", (0.900, 0.910, 0.900))
    tune("lion", (0.970, 0.981, 0.970), optimizer_state_bytes=1_600_000)
    heading, adamw, lion = screen(tables(outputs), 120, 40)
    assert " ".join(heading.split()) == "task optimizer lr decay figure minus adamw verdict state, MB"
    assert " ".join(adamw.split()) == "digits, test accuracy adamw 0.001 0.1 90.3 ± 1.4% reference 3.2"
    assert " ".join(lion.split()) == "lion 0.001 0.1 97.4 ± 1.6% +7.03 points [+6.82, +7.25] better 1.6"


def test_every_line_fits_and_the_pair_that_matters_stays(tune, outputs):
    for optim in ("adabelief", "adamw", "lion", "radam", "sgd"):
        tune(optim, (0.900, 0.910, 0.900))
    lines = screen(tables(outputs), 120, 10)
    assert len(lines) <= 7
    assert [name for name in ("adabelief", "adamw", "lion", "radam", "sgd") if any(name in x for x in lines[1:-1])] == [
        "adabelief",
        "adamw",
        "lion",
    ]
    assert lines[-1] == "more rows in the files: 2"
    assert all(len(line) <= 42 for line in screen(tables(outputs), 42, 10))


def test_what_the_protocol_still_asks_for(tune, write_run, outputs):
    tune("adamw", (0.900, 0.910, 0.900))
    for rate in (1e-4, 1e-3):
        write_run(optim="lion", lr=rate, seed=1000)
    write_run(optim="lion", lr=3e-3, seed=1000, status="interrupted")
    write_run(optim="lion", lr=1e-1, seed=1000, status="diverged", diverged_step=3)
    assert progress(tables(outputs)) == [
        "digits, adamw: enough: 9 trials (9 needed), 3 fresh seeds (3 needed)",
        "digits, lion: missing: 3 trials (9 needed), 0 fresh seeds (3 needed), 1 not finished, 1 diverged",
    ]
