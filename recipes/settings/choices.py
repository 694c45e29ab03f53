"""The choices of each config group, read from the files in conf/, for --help and scripts/list.py."""

import re
import textwrap

from omegaconf import OmegaConf

from recipes.settings.schema import CONF

WIDTH, INDENT = 118, 9  # columns of --help, and of its group names
FAMILIES = {  # headings, by recipe
    "classification": "Image classification",
    "contrastive.recipe": "Images with captions",
    "diffusion.class_conditional": "Diffusion",
    "diffusion.text_to_image": "Text to image",
    "language.language_modelling": "Language models",
    "language.span_corruption": "T5, pre-training",
    "language.text_to_text": "T5, fine-tuning",
}


def register() -> None:
    """Register the resolver `${choices:optim}`, which inserts the choices of a group into the help text."""
    OmegaConf.register_new_resolver("choices", help_text, replace=True)


def names(group: str) -> list[str]:
    """The names of a group's files, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def allowed(group: str) -> list[str]:
    """The values of a group: the names of its files; for `tuned`, the rows of its tables."""
    if group != "tuned":
        return names(group)
    from recipes.settings import tuned_tables

    return [f"{scale}/{task}/{row}" for scale, task in tuned_tables.tables() for row in tuned_tables.names(scale, task)]


def tasks_by_family() -> dict[str, list[str]]:
    """The names of the tasks of each family; families and names are sorted."""
    families: dict[str, list[str]] = {}
    for task in names("task"):
        recipe = re.search(r"^recipe: *([\w.]+)", (CONF / "task" / f"{task}.yaml").read_text("utf-8"), re.MULTILINE)
        name = recipe[1] if recipe else "unknown"
        families.setdefault(FAMILIES.get(name, name), []).append(task)
    return dict(sorted(families.items()))


def scales_of(task: str) -> list[str]:
    """The scales at which a task has a setting."""
    return [scale for scale in names("scale") if (CONF / "setting" / scale / f"{task}.yaml").exists()]


def help_text(group: str) -> str:
    """A group's choices as lines of at most WIDTH columns, the first of them INDENT columns in; tasks by family."""
    if group != "task":
        return _filled(" ".join(names(group)))
    return f"\n{' ' * INDENT}".join(_filled(_family(*family)) for family in tasks_by_family().items())


def _family(family: str, tasks: list[str]) -> str:
    """A family with its tasks, each listed at the first scale that has it."""
    listed: set[str] = set()
    parts = []
    for number, scale in enumerate(names("scale")):
        new = [task for task in tasks if scale in scales_of(task) and task not in listed]
        if new:
            also = "also " if listed else ""
            parts.append(" ".join([f"at scale={scale} {also}".rstrip()] * (number > 0) + new))
            listed.update(new)
    return f"{family}: " + "; ".join(parts)


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH - INDENT, break_on_hyphens=False).replace("\n", f"\n{' ' * INDENT}")
