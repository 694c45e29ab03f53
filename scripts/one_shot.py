"""One-shot evaluation of a trained language model on the tasks of the paper's Table 5, by lm-eval (extra `lm-eval`).

    pip install '.[lm-eval]'
    python scripts/one_shot.py outputs/llm_1b/lion/<run>
    python scripts/one_shot.py outputs/gpt2_small/lion/<run> --tasks piqa,arc_easy --limit 200
    python scripts/one_shot.py outputs/gpt2_small/lion/<run> --tasks mine --include my_tasks

A run's folder gives model, weights and tokenizer. lm-eval fetches its tasks from the Hugging Face hub; --include names
a folder with task files of your own, whose data may be local. Prints each figure with the paper's and writes
one_shot.json into the run's folder, or where --out says.

The figure of a task is exact match, else accuracy by length-normalised likelihood (acc_norm), else accuracy. One of the
paper's 24 is missing: lm-eval has no RACE-m. Its MultiRC is accuracy where the paper prints an F1.
"""

import argparse
import csv
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

ROOT = Path(__file__).resolve().parent.parent
PAPER = ROOT / "reports" / "paper" / "llm_one_shot_tasks.csv"
FIGURES = ("exact_match", "em", "acc_norm", "acc")  # the first of these that a task has
NEEDED = ("task.name", "task.recipe", "model.name", "data.name", "data.options.context")  # keys of a run's config
SIZES = {"llm_1b": "1b", "llm_2b": "2b", "llm_7b": "7b"}


def paper() -> list[dict[str, str]]:
    """The rows of Table 11."""
    lines = PAPER.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def load(folder: Path) -> tuple[Any, Any, Any]:
    """A run's config, its model with the last weights, and its tokenizer in transformers' form.

    Raises:
        ConfigError: the folder holds no run, or a model that does not predict the next token.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from transformers import PreTrainedTokenizerFast

    from recipes import protocol
    from recipes.data.text.tokens import TokenWindows
    from recipes.errors import ConfigError
    from recipes.language.language_modelling import WITHOUT_MASK
    from recipes.language.token_targets import NextTokens
    from recipes.settings import unknown_settings
    from recipes.training import checkpoint

    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} is not a run's folder: config.yaml is missing")
    try:
        cfg = OmegaConf.load(folder / "config.yaml")
        if not isinstance(cfg, DictConfig) or any(OmegaConf.select(cfg, key) is None for key in NEEDED):
            raise ConfigError(f"{folder}/config.yaml is not the config of a run ({', '.join(NEEDED)} are needed)")
        made = protocol.make(cfg)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{folder}/config.yaml cannot be read ({unknown_settings.one_line(error)})") from None
    train: Any = made.examples()["train"] if cfg.task.recipe == "language.language_modelling" else None
    if not isinstance(train, NextTokens):
        raise ConfigError(f"{folder} is a run of task={cfg.task.name}, which does not predict the next token")
    windows: TokenWindows = train.windows
    tokenizer = windows.tokens.tokenizer
    assert tokenizer is not None, "tokens that are made or found in the cache come with theirs"
    end = tokenizer.id_to_token(windows.tokens.end)
    model = made.model()
    made.initialise(model, checkpoint.load_weights(folder))
    config: Any = model.config
    if config._attn_implementation == WITHOUT_MASK:  # lm-eval fills batches up
        config._attn_implementation = "sdpa"
    # What begins a document and what stands where nothing does is the token between documents, as in training.
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end)
    return cfg, model.eval(), fast


def evaluate(
    model: Any,
    tokenizer: Any,
    tasks: list[str],
    *,
    context: int,
    shots: int = 1,
    limit: int | None = None,
    include: Path | None = None,
    batch_size: int = 16,
) -> dict[str, dict[str, float]]:
    """Each task's figures as lm-eval names them.

    Args:
        model: a causal model of transformers.
        tokenizer: in transformers' form.
        tasks: lm-eval's names.
        context: tokens that the model sees at once; older ones are cut off.
        shots: examples before each question.
        limit: questions of each task at most.
        include: folder with further task files.
        batch_size: questions at a time.

    Raises:
        ConfigError: lm-eval is not there, does not know a task, or cannot get its data.
    """
    from datasets.exceptions import DatasetsError

    from recipes.data.hub import first_line
    from recipes.errors import ConfigError

    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"this needs lm-eval ({error}): pip install '.[lm-eval]'") from None
    manager = TaskManager(include_path=None if include is None else str(include))
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise ConfigError(f"lm-eval has no task {', '.join(unknown)}; --include names a folder of further ones")
    wrapped = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        max_length=context,
        batch_size=batch_size,
        prefix_token_id=tokenizer.bos_token_id,
    )
    try:
        evaluation = simple_evaluate(
            wrapped,
            tasks=tasks,
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=False,
        )
    except (OSError, DatasetsError) as error:  # no network, no such data set, no file: lm-eval loads them all first
        raise ConfigError(
            f"lm-eval cannot get the data of its tasks ({first_line(error)}); where there is no network, --tasks and "
            "--include name tasks whose data are local"
        ) from None
    return {task: _numbers(values) for task, values in evaluation["results"].items()}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Figures by name, without their filters' names and standard errors."""
    kept: dict[str, float] = {}
    for name, value in values.items():
        plain = name.partition(",")[0]
        if isinstance(value, int | float) and not plain.endswith("_stderr") and plain != "sample_len":
            kept.setdefault(plain, float(value))
    return kept


def table(results: dict[str, dict[str, float]], task: str) -> str:
    """Our figures and the paper's, in percent, with the averages of generation (NLG) and understanding (NLU)."""
    from reports.number_format import columns, laid_out

    size = SIZES.get(task)
    rows = {row["lm_eval"]: row for row in paper() if row["lm_eval"]}
    shown = [] if size is None else [f"{size}_adafactor", f"{size}_lion"]
    texts: list[dict[str, str]] = []
    groups: dict[str, list[float]] = {}
    for name, values in results.items():
        figure = next((figure for figure in FIGURES if figure in values), None)
        if figure is None:
            continue
        value, row = 100 * values[figure], rows.get(name)
        texts.append({"task": name, "figure": figure, "ours": f"{value:.1f}"})
        texts[-1] |= {f"paper {column[3:]}": row[column] if row else "" for column in shown}
        groups.setdefault(row["group"] if row else "other", []).append(value)
    lines = laid_out(texts, columns())
    lines += [
        f"average of {len(accuracies)} {name}: {statistics.fmean(accuracies):.1f}"
        for name, accuracies in groups.items()
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Load, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--tasks", help="lm-eval's names with commas between; the paper's otherwise")
    parser.add_argument("--include", type=Path, help="a folder with task files of your own")
    parser.add_argument("--shots", type=int, default=1, help="examples before each question (%(default)s)")
    parser.add_argument("--limit", type=int, help="questions of each task at most")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu", help="such as cuda (%(default)s)")
    parser.add_argument("--out", type=Path, help="file to write; one_shot.json in the run's folder otherwise")
    options = parser.parse_args(arguments)

    from recipes.errors import ConfigError
    from recipes.files import write_json
    from recipes.runs import cli

    tasks = options.tasks.split(",") if options.tasks else [row["lm_eval"] for row in paper() if row["lm_eval"]]
    try:
        if options.include is not None and not options.include.is_dir():
            raise ConfigError(f"--include {options.include} is not a folder")
        cfg, model, tokenizer = load(options.run)
        results = evaluate(
            model.to(options.device),
            tokenizer,
            tasks,
            context=cfg.data.options.context,
            shots=options.shots,
            limit=options.limit,
            include=options.include,
            batch_size=options.batch_size,
        )
    except Exception as error:
        if (line := cli.user_message(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2
    print(table(results, cfg.task.name))
    out = options.out or options.run / "one_shot.json"
    try:
        write_json(out, {"shots": options.shots, "limit": options.limit, "tasks": results})
    except OSError as error:
        print(f"error: cannot write {out}: {error.strerror}; the figures stand above", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))
