"""Write conf/tuned/paper/ from the paper's hyperparameters (reports/paper/hyperparameters.csv, its Table 12).

    python scripts/maintenance/make_tuned.py            # write the files
    python scripts/maintenance/make_tuned.py --check    # exit 1 where one differs from what is there

One table a task. The paper prints learning rate and weight decay for Lion and for AdamW (for Adafactor where that was
its baseline). It tuned the other optimizers too and does not print what it found: conf/tuned/fallback.yaml says whose
numbers they start from.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "conf" / "tuned" / "paper"

STRONG = "RandAug 2 15 + Mixup 0.5"
# task, section of its table for an augmentation -> the row's task and augmentation
ROWS = {
    ("resnet50", ""): ("ImageNet ResNet-50", ""),
    ("mixer_s16", ""): ("ImageNet Mixer-S/16", ""),
    ("mixer_b16", ""): ("ImageNet Mixer-B/16", ""),
    ("vit_s16", ""): ("ImageNet ViT-S/16", ""),
    ("vit_s16", "randaug_mixup"): ("ImageNet ViT-S/16", STRONG),
    ("vit_b16", ""): ("ImageNet ViT-B/16", ""),
    ("vit_b16", "randaug_mixup"): ("ImageNet ViT-B/16", STRONG),
    ("coatnet_1", ""): ("ImageNet CoAtNet-1", "RandAug 2 15 + Mixup 0.8"),
    ("coatnet_3", ""): ("ImageNet CoAtNet-3", "RandAug 2 15 + Mixup 0.8"),
    ("vit_b16_in21k", ""): ("ImageNet-21K ViT-B/16", ""),
    ("vit_l16", ""): ("ImageNet-21K ViT-L/16", ""),
    ("vit_h14", ""): ("JFT ViT-H/14", ""),
    ("vit_g14", ""): ("JFT-3B ViT-g/14 and ViT-G/14", ""),
    ("vit_gg14", ""): ("JFT-3B ViT-g/14 and ViT-G/14", ""),
    ("lit_b32_b", ""): ("LiT-B/32-B and LiT-B/16-B", ""),
    ("lit_b16_b", ""): ("LiT-B/32-B and LiT-B/16-B", ""),
    ("lit_g14_l", ""): ("LiT-g/14-L", ""),
    ("basic", ""): ("BASIC-L", ""),
    ("unet_64", ""): ("ImageNet diffusion (dropout 0.1 at 64 px; 0.2 at 128 and 256 px)", ""),
    ("unet_128", ""): ("ImageNet diffusion (dropout 0.1 at 64 px; 0.2 at 128 and 256 px)", ""),
    ("unet_256", ""): ("ImageNet diffusion (dropout 0.1 at 64 px; 0.2 at 128 and 256 px)", ""),
    ("t2i_64", ""): ("Imagen base and super-resolution", ""),
    ("t2i_256_sr", ""): ("Imagen base and super-resolution", ""),
    ("gpt2_small", ""): ("LM and MLM small; medium on PG-19 and C4; large", ""),
    ("gpt2_medium", ""): ("LM medium on Wiki-40B", ""),
    ("gpt2_large", ""): ("LM and MLM small; medium on PG-19 and C4; large", ""),
    ("llm_1b", ""): ("LLM 1.1B and 2.1B", ""),
    ("llm_2b", ""): ("LLM 1.1B and 2.1B", ""),
    ("llm_7b", ""): ("LLM 7.5B", ""),
    ("bert_small", ""): ("LM and MLM small; medium on PG-19 and C4; large", ""),
    ("bert_medium", ""): ("LM and MLM small; medium on PG-19 and C4; large", ""),
    ("bert_large", ""): ("LM and MLM small; medium on PG-19 and C4; large", ""),
}
LANGUAGE_BETAS = {("0.9", "0.99"), ("0.95", "0.98")}  # named only where they differ from those in conf/optim
PRINTED = {"AdamW": "adamw", "Adafactor": "adafactor", "Lion": "lion"}
NAMES = {name: printed for printed, name in PRINTED.items()}
Printed = dict[str, str]


def files() -> dict[Path, str]:
    """Every table's path and text."""
    lines = (ROOT / "reports" / "paper" / "hyperparameters.csv").read_text().splitlines()
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    texts: dict[Path, str] = {}
    for (task, section), (name, augmentation) in ROWS.items():
        rows = {PRINTED[r["optimizer"]]: r for r in table if r["task"] == name and r["augmentation"] == augmentation}
        path = FOLDER / f"{task}.yaml"
        indent = "  " if section else ""
        if not section:
            texts[path] = (
                f"# python run.py task={task} optim=lion scale=paper dry_run=true\n"
                f"# Where the learning rates and weight decays of task={task} begin at scale=paper, optimizers side by "
                "side.\n# Written by scripts/maintenance/make_tuned.py from the paper's Table 12; what it does not "
                "print, see ../fallback.yaml.\n"
            )
        else:
            texts[path] += f"{section}:\n"
        source = f"Lion paper, Table 12, {name}{f', {augmentation}' if augmentation else ''}"
        lines = _lines(rows, language=task.startswith(("gpt2", "bert", "llm")), source=source)
        texts[path] += f'{indent}source: "{source}"\n' + "".join(f"{indent}{line}\n" for line in lines)
    return texts


def _lines(rows: dict[str, Printed], *, language: bool, source: str) -> list[str]:
    """A line for each optimizer that the paper prints; of the language tasks, for both baselines, with their betas."""
    baseline = next(optim for optim in rows if optim != "lion")
    lines = []
    for optim in ("adamw", "lion", "adafactor"):
        row = rows.get(optim, rows[baseline])
        betas = row["beta1"], row["beta2"]
        named = language and betas in LANGUAGE_BETAS
        if optim not in rows and not named:
            continue
        numbers = [f"lr: {row['lr']}", f"weight_decay: {row['weight_decay'] or '0.0'}"]
        if named:  # Adafactor's beta2 rises to a cap of its own name
            numbers.append(f"beta2_cap: {betas[1]}" if optim == "adafactor" else f"betas: [{', '.join(betas)}]")
        if optim in rows:
            lines.append(f"{optim}: {{{', '.join(numbers)}}}")
        else:
            why = f"{source}: {row['optimizer']}'s numbers, since {NAMES[optim]}'s are not printed"
            lines += [f"{optim}:", *(f"  {number}" for number in numbers), f'  source: "{why}"']
    return lines


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    differing = 0
    for path, text in files().items():
        if check:
            differing += not path.exists() or path.read_text() != text
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    print(f"{differing} files differ" if check else f"{len(files())} tables written to {FOLDER.relative_to(ROOT)}")
    return 1 if differing else 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))
