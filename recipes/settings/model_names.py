"""Names of models, parsed from the source of timm and transformers, which take seconds to import."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path


def names(recipe: str) -> frozenset[str] | None:
    """The names that `model.name=` takes in a recipe; None if the source does not tell."""
    if recipe == "classification":
        return _timm()
    return _language_models() if recipe == "language.language_modelling" else None


def _folder(package: str, *below: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0], *below) if places else None


@cache
def _timm() -> frozenset[str] | None:
    """Registered functions and classes of timm.models, and what recipes/image_models.py adds to them."""
    folder = _folder("timm", "models")
    files = [*folder.glob("*.py"), Path(__file__).parents[1] / "image_models.py"] if folder else []
    texts = [file.read_text(encoding="utf-8") for file in files]
    names = {
        name
        for text in texts
        for name in re.findall(r"^(?:@register_model\ndef|class) (\w+)", text, flags=re.MULTILINE)
    }
    return frozenset(names) or None


@cache
def _language_models() -> frozenset[str] | None:
    """Classes of transformers that predict tokens, and what recipes/language_models.py adds to them."""
    folder = _folder("transformers", "models", "auto")
    if folder is None or not (file := folder / "modeling_auto.py").is_file():
        return None
    wanted = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_MASKED_LM_MAPPING_NAMES")
    added = (Path(__file__).parents[1] / "language_models.py").read_text(encoding="utf-8")
    names = set(re.findall(r"^class (\w+)\(PreTrainedModel\)", added, flags=re.MULTILINE))
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in wanted and isinstance(node.value, ast.Call):
            for pair in ast.walk(node.value):
                if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 and isinstance(pair.elts[1], ast.Constant):
                    names.add(str(pair.elts[1].value))
    return frozenset(names) or None
