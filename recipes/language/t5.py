"""T5 v1.1 (Raffel et al. 2020, arXiv:1910.10683): the base of the recipes for pre-training and fine-tuning.

An encoder and a decoder with gated GELU; the output layer is not tied to the embedding. A batch is `input` and
`target`, token ids with the padding token where a row has ended.
"""

from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from torch import nn

from recipes import protocol
from recipes.errors import ConfigError
from recipes.language import chunked_loss
from recipes.training.pretrained_weights import load_matching
from recipes.training.sampler import Batch

# Files that transformers wrote hold one of three names of the embedding, old ones a bias that nothing reads.
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


class T5(protocol.Recipe):
    """Model, loss and start of a recipe; model.args are those of transformers' T5Config."""

    goal: Literal["max", "min"] = "max"

    def __init__(self, cfg: DictConfig) -> None:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import T5Config

        self.cfg = cfg
        self.tokenizer: Tokenizer | None = None
        args: Any = OmegaConf.to_container(cfg.model.args)
        self.pad = int(args.get("pad_token_id", 0))
        try:
            if unknown := sorted(set(args) - set(T5Config.__dataclass_fields__)):
                raise ValueError(f"{unknown[0]} is none of T5Config's")
            self.config = T5Config(**{"feed_forward_proj": "gated-gelu"} | args | {"pad_token_id": self.pad})
        except (TypeError, ValueError, StrictDataclassError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"model.name={cfg.model.name} does not take these model.args: {reason}") from None
        self.config.decoder_start_token_id = self.pad
        if self.config.dense_act_fn == "gelu_new":  # the same function in one pass: a tenth of a small model's step
            self.config.dense_act_fn = "gelu_pytorch_tanh"
        # transformers 5 ties the output layer whatever it is told; v1.1 does not, nor does it scale what goes into it.
        self.config.tie_word_embeddings = self.config.scale_decoder_outputs = False

    def model(self) -> nn.Module:
        """Transformers' T5ForConditionalGeneration with random weights."""
        from transformers import T5ForConditionalGeneration

        model = T5ForConditionalGeneration(self.config)
        model.set_input_embeddings(model.shared)  # encoder and decoder do share theirs
        # As T5X draws it, so that logits begin near 1; transformers' N(0, 1) begins at the square root of d_model.
        nn.init.normal_(model.lm_head.weight, std=self.config.d_model**-0.5)
        chunked_loss.teach(model)
        return model

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Take the weights of another run, or of a published model; names and shapes must be the same."""
        weights = {name: value for name, value in weights.items() if name != UNUSED}
        if "shared.weight" in weights:
            weights |= dict.fromkeys(COPIES, weights["shared.weight"])
        load_matching(model, weights, self.cfg.init_from, self.cfg.model.name)

    def token_losses(self, model: Any, batch: Batch, **encoded: Any) -> torch.Tensor:
        """Cross-entropy of each target token given the input and the tokens before it, 0 for padding.

        Args:
            model: a T5, wrapped or not.
            batch: `input` and `target`.
            encoded: `encoder_outputs`, if already computed.

        Returns:
            float32 [B, target tokens].
        """
        source, target = batch["input"], batch["target"]
        decoder_input = nn.functional.pad(target, (1, 0), value=self.pad)[:, :-1]
        arguments: dict[str, Any] = {
            "attention_mask": source != self.pad,
            "decoder_input_ids": decoder_input,
            "use_cache": False,
        }
        return chunked_loss.of_targets(
            model,
            target,
            self.cfg.logit_rows,
            self.config.vocab_size,
            ignored=self.pad,
            input_ids=None if encoded else source,
            **arguments,
            **encoded,
        )

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over all target tokens of the batch."""
        return {"loss": self.token_losses(model, batch).sum() / self.targets(batch)}

    def targets(self, batch: Batch) -> torch.Tensor:
        """How many target tokens a batch has, 0-d int64: the loop weighs the parts of a step by it."""
        return batch["target"].ne(self.pad).sum()

    def check(self, tokenizer_pad: int, vocab_size: int) -> None:
        """Refuse a model that does not fit the tokenizer.

        Raises:
            ConfigError: another padding token, or fewer rows in the embedding than there are tokens.
        """
        if tokenizer_pad != self.pad or vocab_size > self.config.vocab_size:
            raise ConfigError(
                f"data={self.cfg.data.name} has {vocab_size} tokens and pads with token {tokenizer_pad}; "
                f"model.args.vocab_size={self.config.vocab_size} and pad_token_id={self.pad} do not fit"
            )

    def _blank(self, size: int, source: int, target: int) -> Batch:
        """Tokens that are no padding, of the longest input and target."""
        token = (self.pad + 1) % 2
        return {
            "input": torch.full((size, source), token),
            "target": torch.full((size, target), token),
        }
