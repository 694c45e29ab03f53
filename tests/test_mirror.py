"""The tests mirror the packages: recipes/data/hub.py is tested by tests/recipes/data/test_hub.py, or stands here."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("baselines", "hydra_plugins", "lion", "recipes", "reports", "scripts")
DATA = ("lion/discovery/programs",)  # programs in Python's grammar, which nothing imports

# A module without a test file of its own, or a folder of such modules -> the tests that cover it.
COVERED_BY = {
    "baselines/adam.py": "tests/baselines/test_formulas.py",
    "baselines/axes.py": "tests/baselines/test_field_parity.py",
    "baselines/ademamix.py": "tests/baselines/test_field_parity.py",
    "baselines/lion_muon.py": "tests/baselines/test_field_parity.py",
    "baselines/prodigy.py": "tests/baselines/test_field_parity.py",
    "baselines/soap.py": "tests/baselines/test_field_parity.py",
    "baselines/sgdw.py": "tests/baselines/test_formulas.py",
    "baselines/signs.py": "tests/baselines/test_formulas.py",
    "baselines/tensors.py": "tests/baselines/test_formulas.py",
    "hydra_plugins/tuning_protocol.py": "tests/hydra_plugins/test_tuning.py",
    "lion/discovery/language/compile.py": "tests/lion/discovery/language/test_ops.py",
    "lion/discovery/language/terms.py": "tests/lion/discovery/simplification/test_rewriting.py",
    "lion/discovery/search/workers.py": "tests/lion/discovery/search/test_evolution.py",
    "lion/discovery/simplification/bypass.py": "tests/lion/discovery/simplification/test_rewriting.py",
    "lion/kernels/launch.py": "tests/lion/kernels/test_cpu.py",
    "lion/kernels/plain.py": "tests/lion/test_optimizer.py",
    "lion/reference.py": "tests/lion/test_properties.py",
    "lion/settings.py": "tests/lion/test_refusals.py",
    "recipes/contrastive/rows.py": "tests/recipes/contrastive/test_recipe.py",
    "recipes/data/cache.py": "tests/recipes/data/text/test_token_cache.py",
    "recipes/data/listing.py": "tests/recipes/data/images/test_decoding.py",
    "recipes/data/location.py": "tests/recipes/data/images/test_files.py",
    "recipes/data/pairs/caption_files.py": "tests/recipes/data/pairs/test_image_text.py",
    "recipes/data/pairs/pairs.py": "tests/recipes/data/pairs/test_image_text.py",
    "recipes/data/pairs/shards.py": "tests/recipes/data/pairs/test_image_text.py",
    "recipes/data/pairs/sources.py": "tests/recipes/data/pairs/test_image_text.py",
    "recipes/data/pairs/zero_shot.py": "tests/recipes/data/pairs/test_image_text.py",
    "recipes/data/text/tasks/text_tasks.py": "tests/recipes/data/text/tasks/test_text_pairs.py",
    "recipes/diffusion/caption_rows.py": "tests/recipes/diffusion/test_text_to_image.py",
    "recipes/diffusion/feature_extractors.py": "tests/recipes/diffusion/test_class_conditional.py",
    "recipes/diffusion/rows.py": "tests/recipes/diffusion/test_class_conditional.py",
    "recipes/diffusion/text_encoders.py": "tests/recipes/diffusion/test_text_to_image.py",
    "recipes/distributed/initial_values.py": "tests/recipes/distributed/test_sharding.py",
    "recipes/errors.py": "tests/test_run.py",
    "recipes/files.py": "tests/recipes/runs/test_record.py",
    "recipes/language/t5.py": "tests/recipes/language/test_span_corruption.py",
    "recipes/language/token_targets.py": "tests/recipes/language/test_language_modelling.py",
    "recipes/minimal_loop.py": "tests/scripts/test_speed.py",
    "recipes/runs/cli.py": "tests/test_run.py",
    "recipes/runs/experiment.py": "tests/test_run.py",
    "recipes/runs/dry_run/memory_estimate.py": "tests/recipes/runs/dry_run/test_cost.py",
    "recipes/runs/metric_logger.py": "tests/recipes/runs/test_tracker.py",
    "recipes/runs/summary.py": "tests/test_run.py",
    "recipes/settings/arguments.py": "tests/recipes/diffusion/test_noise_schedule.py",
    "recipes/settings/command_line.py": "tests/test_bad_commands.py",
    "recipes/settings/from_data.py": "tests/recipes/test_own_pictures.py",
    "recipes/settings/model_names.py": "tests/test_bad_commands.py",
    "recipes/settings/schema.py": "tests/test_configs.py",
    "recipes/settings/sweep_values.py": "tests/test_bad_commands.py",
    "recipes/settings/unknown_settings.py": "tests/test_bad_commands.py",
    "recipes/settings/optimizer_arguments.py": "tests/recipes/settings/test_validation.py",
    "recipes/training/execution/micro_batches.py": "tests/recipes/training/test_loop.py",
    "recipes/training/run_state.py": "tests/test_run.py",
    "recipes/training/step_kind.py": "tests/recipes/training/test_loop.py",
    "reports/claims/conditions.py": "tests/reports/claims/test_evaluation.py",
    "reports/claims/criteria.py": "tests/reports/claims/test_evaluation.py",
    "reports/claims/evidence.py": "tests/reports/claims/test_evaluation.py",
    "reports/evidence/schema.py": "tests/reports/evidence/test_ledger.py",
    "reports/evidence/statements.py": "tests/reports/evidence/test_counts.py",
    "reports/evidence/tables.py": "tests/scripts/test_evidence.py",
    "reports/evidence/tuned_pairs.py": "tests/reports/evidence/test_transfer.py",
    "reports/number_format.py": "tests/reports/tables/test_render.py",
    "reports/page": "tests/reports/test_page.py",
    "reports/plots/setting_transfer.py": "tests/reports/tables/test_setting_transfer.py",
    "reports/plots/tuning.py": "tests/reports/test_publish.py",
    "reports/protocol.py": "tests/reports/statistics/test_families.py",
    "reports/records/folders.py": "tests/reports/records/test_reader.py",
    "reports/records/landscape.py": "tests/reports/claims/test_evaluation.py",
    "reports/results.py": "tests/reports/test_publish.py",
    "reports/statistics/learning_curves.py": "tests/reports/plots/test_curves.py",
    "reports/statistics/setting_differences.py": "tests/reports/test_compare.py",
    "reports/statistics/timings.py": "tests/reports/records/test_speeds.py",
    "reports/tables/overviews.py": "tests/reports/test_publish.py",
    "reports/tables/units.py": "tests/reports/tables/test_render.py",
    "scripts/benchmark/device.py": "tests/scripts/test_gpu_report.py",
    "scripts/benchmark/contenders.py": "tests/scripts/test_bench.py",
    "scripts/benchmark/round_robin.py": "tests/scripts/test_round_robin.py",
    "scripts/benchmark/tables.py": "tests/scripts/test_bench.py",
    "scripts/collect.py": "tests/reports/records/test_archive.py",
    "scripts/compare.py": "tests/reports/test_compare.py",
    "reports/page/server.py": "tests/reports/test_compare.py",
    "scripts/discovery": "tests/scripts/test_discover.py",
    "scripts/maintenance": "tests/scripts/test_scripts.py",
    "scripts/suggest.py": "tests/scripts/test_evidence.py",
    "scripts/sync_wandb.py": "tests/scripts/test_scripts.py",
    "scripts/tune.py": "tests/hydra_plugins/test_tuning.py",
}


def untested(root: Path, covered_by: dict[str, str]) -> list[str]:
    """Modules with neither a test file of their own nor an entry for them or their folder."""
    modules = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    names = [path.relative_to(root).as_posix() for path in modules if path.name != "__init__.py"]
    return [name for name in names if not has_tests(root, name, covered_by)]


def has_tests(root: Path, module: str, covered_by: dict[str, str]) -> bool:
    folder, _, name = module.rpartition("/")
    if folder in DATA or (root / "tests" / folder / f"test_{name}").is_file():
        return True
    return module in covered_by or folder in covered_by


def test_each_module_has_tests() -> None:
    assert untested(ROOT, COVERED_BY) == []


@pytest.mark.parametrize("module", COVERED_BY)
def test_an_entry_is_of_a_module_without_tests_of_its_own_and_names_a_file(module: str) -> None:
    assert (ROOT / module).exists()
    assert (ROOT / COVERED_BY[module]).is_file()
    if module.endswith(".py"):
        assert not has_tests(ROOT, module, {}), "it has a test file of its own: take the entry out"


def test_a_module_without_tests_is_found(tmp_path: Path) -> None:
    for name in ("lion/a.py", "lion/b.py", "lion/folder/c.py", "lion/folder/__init__.py", "tests/lion/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert untested(tmp_path, {}) == ["lion/b.py", "lion/folder/c.py"]
    assert untested(tmp_path, {"lion/b.py": "", "lion/folder": ""}) == []
