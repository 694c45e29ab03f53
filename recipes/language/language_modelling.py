"""Causal and masked language modelling: GPT-2 and BERT (Lion paper, section 4.4, Figures 7 and 11, Table 9).

Data: a text as packed windows of tokens. Model: a class of transformers with random weights, which predicts the next
token (GPT2LMHeadModel, LlamaForCausalLM) or masked ones (BertForMaskedLM), or one of recipes/language_models.py. Loss:
softmax cross-entropy of each token.
Metric: perplexity of held-out text, the exponential of its total negative log likelihood over its number of tokens, or
of words if data.options.word_level is set.
"""

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from torch import nn

from recipes import protocol
from recipes.data.text.tokens import PADDING, TokenWindows
from recipes.errors import ConfigError
from recipes.language import chunked_loss, ngram
from recipes.language.token_targets import HiddenTokens, NextTokens
from recipes.protocol import load_data
from recipes.training.pretrained_weights import check_matching
from recipes.training.sampler import Batch, Examples

# A packed text has no padding, and the model does not treat the tokens that begin and end a text specially.
UNSET_ARGUMENTS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Windows have no padding that a token attends to, so the kernel's causal mask is enough. Transformers derives a mask
# from the positions at every forward pass, which waits for the device, and creates one when compiled. For an attention
# with an unknown name it creates none.
FULL_CAUSAL = ("GPT2LMHeadModel", "LlamaForCausalLM")
WITHOUT_MASK = "causal_without_mask"
# Published weights also contain these: a constant of GPT-2's masking, BERT's head for the next sentence.
UNUSED_WEIGHTS = ("attn.masked_bias", "cls.seq_relationship")


class Recipe(protocol.Recipe):
    """One model of the family on one text."""

    learns_from = "text"
    metric = "perplexity"
    goal: Literal["max", "min"] = "min"

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.args: dict[str, Any] = OmegaConf.to_container(cfg.model.args)  # type: ignore[assignment]
        self.tokenizer: Tokenizer | None = None
        self.vocabulary: int | None = None  # of a model that gives losses by chunks, once `model` has been called
        self.ngrams: dict[str, torch.Tensor] = {}  # log probabilities of models that count, for comparison

    def _model_class(self) -> Any:
        """The class of transformers and whether it learns from hidden tokens."""
        import transformers
        from transformers.models.auto import modeling_auto

        from recipes import language_models

        name = self.cfg.model.name
        if name == language_models.SpeedRunGPT.__name__:
            return language_models.SpeedRunGPT, False
        masked = set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values())
        causal = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
        if name not in masked | causal:
            similar = difflib.get_close_matches(name, masked | causal, n=3) or ["GPT2LMHeadModel", "BertForMaskedLM"]
            raise ConfigError(
                f"model.name={name} is not a language model of transformers; similar: {', '.join(similar)}"
            )
        return getattr(transformers, name), name in masked

    def _model_config(self) -> Any:
        """The configuration of transformers with the model's arguments."""
        config_class = self._model_class()[0].config_class
        names = {*config_class().to_dict(), *config_class.attribute_map, "attn_implementation"}
        if unknown := sorted(set(self.args) - names):
            similar = difflib.get_close_matches(unknown[0], sorted(names), n=3) or sorted(names)
            raise ConfigError(f"{self.cfg.model.name} has no argument {unknown[0]}; similar: {', '.join(similar)}")
        try:
            fixed: dict[str, Any] = {name: None for name in UNSET_ARGUMENTS if name in names}
            if "is_decoder" in names and not self._model_class()[1]:
                fixed["is_decoder"] = True  # else BertLMHeadModel and its like see the tokens that they predict
            return config_class(**{"use_cache": False, **fixed, **self.args})
        except Exception as error:  # transformers checks types by classes of its own
            raise ConfigError(f"{self.cfg.model.name} does not take these model.args: {_one_line(error)}") from None

    def examples(self) -> dict[str, Examples]:
        """Windows of tokens: each predicted from those before it, or hidden ones from those around."""
        config, options = self._model_config(), self.cfg.data.options
        context, longest = options.context, getattr(config, "max_position_embeddings", None)
        if longest is not None and context > longest:
            raise ConfigError(
                f"data.options.context={context} is longer than the model's {longest} positions; lower it, or raise "
                f"model.args.{config.attribute_map.get('max_position_embeddings', 'max_position_embeddings')}"
            )
        if options.get("tokenizer") is None and "vocab_size" in options:
            self._fits(options.vocab_size, config.vocab_size)  # known before a long text is tokenised
        windows: dict[str, TokenWindows] = load_data(self.cfg)
        tokens = windows["train"].tokens
        self.tokenizer = tokens.tokenizer
        self._fits(tokens.vocab_size, config.vocab_size)
        masked = self._model_class()[1]
        if masked and tokens.mask is None:
            raise ConfigError(
                f"{self.cfg.model.name} hides tokens, and the tokenizer of {self.cfg.data.name} has no mask"
            )
        if tokens.vocab_size <= ngram.LARGEST:
            self.ngrams["unigram"] = torch.from_numpy(ngram.unigram(tokens.ids, tokens.vocab_size))
            if not masked and len(tokens.ids) >= ngram.SHORTEST:
                self.ngrams["bigram"] = torch.from_numpy(ngram.bigram(tokens.ids, tokens.vocab_size))
        if not masked:
            return {name: NextTokens(split) for name, split in windows.items()}
        # Evaluation hides the same tokens at every step, seed and optimizer.
        return {
            name: HiddenTokens(split, self.cfg.seed if name == "train" else None) for name, split in windows.items()
        }

    def _fits(self, tokens: int, rows: int) -> None:
        if tokens > rows:
            raise ConfigError(
                f"the tokenizer has {tokens} tokens, the model {rows}: set model.args.vocab_size={tokens}, or choose "
                "another tokenizer"
            )

    def model(self) -> nn.Module:
        """The model that transformers builds from its configuration; weights are random."""
        import transformers
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        model_class, config = self._model_class()[0], self._model_config()
        try:
            model: nn.Module = model_class(config)
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise ConfigError(f"{self.cfg.model.name} does not take these model.args: {_one_line(error)}") from None
        if any(type(part).__name__.endswith("Embeddings") and hasattr(part, "padding_idx") for part in model.modules()):
            raise ConfigError(
                f"{self.cfg.model.name} counts positions by its padding token, and packed windows have none; choose a "
                "model of the other kind, such as BertForMaskedLM or GPT2LMHeadModel"
            )
        if type(model).__name__ in FULL_CAUSAL and config._attn_implementation == "sdpa":
            transformers.AttentionInterface.register(WITHOUT_MASK, sdpa_attention_forward)
            used: Any = model.config
            used._attn_implementation = WITHOUT_MASK
        if chunked_loss.teach(model):
            self.vocabulary = config.vocab_size
        return model

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Take the weights of a run of the same model and tokenizer, or what transformers saved or the hub has.

        Transformers knows what it called its weights over the years: GPT-2's without the model's prefix, layer norms'
        gamma and beta, tied weights under one of their names.
        """
        model_class: Any = type(model)
        with _quiet():
            loaded, report = model_class.from_pretrained(
                None,
                config=self._model_config(),
                state_dict=weights,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        embedding = loaded.get_input_embeddings().weight
        for _, theirs, ours in report["mismatched_keys"]:
            if ours == embedding.shape and theirs[1:] == ours[1:]:
                raise ConfigError(
                    f"init_from={self.cfg.init_from} has a vocabulary of {theirs[0]} tokens, the model {ours[0]}: "
                    "choose the tokenizer and model.args.vocab_size that it was trained with"
                )
        differing = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
        differing |= {name for name in report["unexpected_keys"] if not any(part in name for part in UNUSED_WEIGHTS)}
        check_matching(differing, self.cfg.init_from, self.cfg.model.name)
        model.load_state_dict(loaded.state_dict())

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over the batch's targets."""
        return {"loss": self._losses(model, batch).sum() / self.targets(batch).clamp(min=1)}

    def targets(self, batch: Batch) -> torch.Tensor:
        """How many tokens of a batch are learnt, 0-d int64: the loop weighs the parts of a step by it."""
        return (batch["target"] != PADDING).sum()

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Negative log likelihoods of each window, by the model and by those that count, and its tokens or words."""
        target = batch["target"]
        counted = target != PADDING
        figures = {"nll": self._losses(model, batch).sum(1), "tokens": counted.sum(1)}
        if "words" in batch:
            figures["words"] = batch["words"]
        for name, table in self.ngrams.items():
            logs = table.to(target.device)
            index = target.clamp(min=0)
            log_probability = logs[index] if logs.ndim == 1 else logs[batch["input"], index]
            figures[name] = -(log_probability * counted).sum(1)
        return figures

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Perplexities of a split; `loss` is by token whatever they are spread over."""
        total = {name: values.double().sum() for name, values in figures.items()}
        parts = total.get("words", total["tokens"])
        values = {"perplexity": (total["nll"] / parts).exp().item(), "loss": (total["nll"] / total["tokens"]).item()}
        return values | {f"{name}_perplexity": (total[name] / parts).exp().item() for name in self.ngrams}

    def blank_batch(self, size: int) -> Batch:
        """Windows of the first token."""
        blank = torch.zeros(size, self.cfg.data.options.context, dtype=torch.long)
        return {"input": blank, "target": torch.zeros_like(blank)}

    def _losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Negative log likelihood of each target, float32 [B, T]; 0 where there is none."""
        inputs = {"input_ids": batch["input"]}
        if "attention_mask" in batch:
            inputs["attention_mask"] = batch["attention_mask"]
        return chunked_loss.of_targets(
            model, batch["target"], self.cfg.logit_rows, self.vocabulary, ignored=PADDING, **inputs
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of what it loads: the caller reports errors."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
