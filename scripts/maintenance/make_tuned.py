"""Write conf/tuned/paper.yaml from the paper's hyperparameters (reports/paper/hyperparameters.csv, its Table 12).

    python scripts/maintenance/make_tuned.py            # write the table
    python scripts/maintenance/make_tuned.py --check    # exit 1 if the committed table differs

One section a task. The paper prints learning rate and weight decay for Lion and for AdamW (for Adafactor where that was
its baseline). It also tuned the other optimizers and does not print their values: conf/tuned/fallback.yaml says which
optimizer's values they start from.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "conf" / "tuned" / "paper.yaml"

STRONG = "RandAug 2 15 + Mixup 0.5"
# task, its subsection for an augmentation -> the row's task and augmentation
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
    ("t5_base", ""): ("T5 on GLUE", ""),
    ("t5_large", ""): ("T5 on GLUE", ""),
    ("t5_11b", ""): ("T5 on GLUE", ""),
}
HEADER = """\
# python run.py task=vit_b16 optim=lion scale=paper dry_run=true
# Learning rate and weight decay of each task and optimizer at scale=paper, and their source; for optimizers without a
# row see fallback.yaml. Written by scripts/maintenance/make_tuned.py from the paper's Table 12, but for gpt2_124m.
"""
NOT_IN_THE_PAPER = """\
gpt2_124m:
  adamw: {lr: 6e-4, weight_decay: 0.1, betas: [0.9, 0.95], source: "nanoGPT's setting for this model"}
  lion:
    lr: 6e-5
    weight_decay: 1.0
    betas: [0.95, 0.98]
    source: "a tenth of AdamW's rate and ten times its decay, the paper's rule (section 5); betas of its language runs"
"""
LANGUAGE_BETAS = {("0.9", "0.99"), ("0.95", "0.98")}  # written only where they differ from those in conf/optim
PRINTED = {"AdamW": "adamw", "Adafactor": "adafactor", "Lion": "lion"}
NAMES = {name: printed for printed, name in PRINTED.items()}
Printed = dict[str, str]


def text() -> str:
    """The table as text."""
    lines = (ROOT / "reports" / "paper" / "hyperparameters.csv").read_text().splitlines()
    table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    written = [HEADER]
    for (task, subsection), (name, augmentation) in ROWS.items():
        rows = {PRINTED[r["optimizer"]]: r for r in table if r["task"] == name and r["augmentation"] == augmentation}
        indent = "    " if subsection else "  "
        written.append(f"  {subsection}:\n" if subsection else f"{task}:\n")
        source = f"Lion paper, Table 12, {name}{f', {augmentation}' if augmentation else ''}"
        lines = _lines(rows, language=task.startswith(("gpt2", "bert", "llm", "t5")), source=source)
        written += [f"{indent}{line}\n" for line in (f'source: "{source}"', *lines)]
    return "".join([*written, NOT_IN_THE_PAPER])


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
        if named:  # Adafactor's beta2 rises to a cap
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
    name = TABLE.relative_to(ROOT)
    if parser.parse_args().check:
        same = TABLE.exists() and TABLE.read_text() == text()
        print(f"{name} is up to date" if same else f"{name} differs from what this script writes")
        return 0 if same else 1
    TABLE.write_text(text())
    print(f"{name} written")
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))
