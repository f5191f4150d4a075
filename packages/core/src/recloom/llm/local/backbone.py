"""A pretrained language model or encoder as a part of a recommender."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ...errors import RecloomError, at_least
from ...pretrained import Pretrained
from .adapter import fingerprint
from .masks import Prefix, additive, layer_range, pairs_of
from .weights import (
    REFERENCE,
    TRAINED,
    Dtype,
    Kind,
    LoRA,
    Train,
    adapted_layers,
    add_adapter,
    open_weights,
    use_adapter,
    using_adapter,
    weights_folder,
)


class Backbone(nn.Module):
    """A pretrained model: tokens or vectors in, hidden vectors and logits out.

    Weights come from safetensors and no code of a model's repository is run. What training does not change enters no
    checkpoint: a recommender says so by `external_weights() -> {"backbone.": self.backbone.pretrained()}`.

    Args:
        model: folder, or name on the hub.
        kind: a `causal` language model, an `encoder` without one, or an encoder-decoder (`seq2seq`).
        train: nothing (`frozen`), low-rank adapters (`lora`, `dora`), or all weights (`full`).
        dtype: of the weights.
        lora: of the adapters.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        revision: branch, tag or commit on the hub.
    """

    def __init__(
        self,
        model: str,
        kind: Kind = "causal",
        train: Train = "frozen",
        dtype: Dtype = "float32",
        lora: LoRA = LoRA(),  # noqa: B008 - frozen
        checkpointing: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (("kind", kind, Kind), ("train", train, Train), ("dtype", dtype, Dtype)):
            if value not in get_args(known):
                raise RecloomError(f"{name} is one of {', '.join(get_args(known))}; found {value!r}")
        self.kind, self.trained = kind, train
        self.model = open_weights(model, kind, dtype, revision)
        self.folder = weights_folder(model, revision)
        self.fingerprint = fingerprint(self.folder)
        self.model.requires_grad_(train == "full")
        if train in ("lora", "dora"):
            add_adapter(self.model, lora, train == "dora", TRAINED)
        self.lora = lora
        if checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.vocabulary: int = self.model.get_input_embeddings().num_embeddings
        self.added = nn.Parameter(
            torch.empty(0, self.dim, dtype=self.model.dtype), requires_grad=False
        )  # (n, d)
        self.added_out: nn.Parameter | None = None
        if kind != "encoder" and not self.model.config.tie_word_embeddings:
            self.added_out = nn.Parameter(
                torch.empty(0, self.dim, dtype=self.model.dtype), requires_grad=False
            )
        self.reference_model: nn.Module | None = None
        self._referring = False

    @property
    def dim(self) -> int:
        """Size of a hidden vector."""
        return int(self.model.get_input_embeddings().embedding_dim)

    def train(self, mode: bool = True) -> Backbone:
        """As of a module; a frozen model has no dropout."""
        super().train(mode)
        if self.trained == "frozen":
            self.model.eval()
        return self

    # -- hidden vectors -------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        embeds: Tensor | None = None,
        prefix_kv: Prefix | None = None,
        layers: slice = slice(None),
    ) -> Tensor:
        """Return (B, L, d) hidden vectors; of the encoder for `seq2seq`.

        Args:
            tokens: (B, L) int64; those from `vocabulary` on are added ones.
            positions: (B, L) int64; by default the true tokens are counted from 0, behind the prefix where there is
                one. T5 reads distances between columns instead.
            mask: (B, L), not 0 where a token is; or (B, L, S) or (B, 1, L, S) bool, True where a token may read
                another, with S = L, or P + L with a prefix.
            embeds: (B, L, d) in place of tokens; behind the first layers, what these gave.
            prefix_kv: what stands before, for a causal model.
            layers: which layers to compute, for a causal model; the last norm comes with the last layer.
        """
        if (tokens is None) == (embeds is None):
            raise RecloomError("a backbone reads tokens or embeds; give one of the two")
        whole = layers == slice(None)
        if self.kind != "causal" and (prefix_kv is not None or not whole):
            raise RecloomError(
                f"prefixes and ranges of layers are for causal models; this one is an {self.kind} model"
            )
        vectors = self.embed(tokens) if embeds is None else embeds  # type: ignore[arg-type]
        mask = torch.ones(vectors.shape[:2], device=vectors.device) if mask is None else mask
        if positions is None and mask.dim() > 2:
            raise RecloomError("a mask of pairs of tokens says no positions; give them too")
        if positions is None:
            before = 0 if prefix_kv is None else prefix_kv.mask.sum(1, keepdim=True)
            positions = (mask.long().cumsum(1) - 1).clamp(min=0) + before
        pairs = pairs_of(mask, prefix_kv, self.kind == "causal")  # (B, 1, L, S) bool
        self._check_window(pairs.shape[-1])
        given: dict[str, Any] = {"inputs_embeds": vectors, "attention_mask": additive(pairs, vectors.dtype)}
        if self.kind == "seq2seq":
            return self._read(self._current.encoder, given)
        if self.kind == "encoder":
            return self._read(self._current, given | {"position_ids": positions + self._first_position})
        given |= {"position_ids": positions, "use_cache": prefix_kv is not None}
        if prefix_kv is not None:
            given["past_key_values"] = prefix_kv.as_cache()
        inner = self._current.base_model
        if whole:
            return self._read(inner, given)
        with layer_range(inner, layers):
            return self._read(inner, given)

    def decode(self, hidden: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Return (B, T, d) hidden vectors of the decoder, each of which predicts the target at its place.

        Args:
            hidden: (B, L, d) of `forward`.
            mask: (B, L) beside it.
            target: (B, T) int64 tokens of the decoder's side.
        """
        if self.kind != "seq2seq":
            raise RecloomError(f"decode is for seq2seq models; this one is a model of kind {self.kind}")
        start = self.model.config.decoder_start_token_id
        shifted = torch.cat([torch.full_like(target[:, :1], start), target[:, :-1]], 1)
        steps, kind = target.shape[1], hidden.dtype
        causal = torch.ones(steps, steps, dtype=torch.bool, device=target.device).tril()[None, None]
        read = (mask != 0)[:, None, None].expand(-1, 1, steps, -1)
        given = {"inputs_embeds": self.embed(shifted), "attention_mask": additive(causal, kind)}
        given |= {"encoder_hidden_states": hidden, "encoder_attention_mask": additive(read, kind)}
        return self._read(self._current.decoder, given | {"use_cache": False})

    def cache(self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Prefix:
        """Return keys and values of (B, P) tokens that others will stand behind; arguments as of `forward`."""
        if self.kind != "causal":
            raise RecloomError(
                f"a prefix is cached for causal models; this one is a model of kind {self.kind}"
            )
        mask = torch.ones_like(tokens) if mask is None else mask
        positions = (mask.long().cumsum(1) - 1).clamp(min=0) if positions is None else positions
        vectors = self.embed(tokens)
        pairs = additive(pairs_of(mask, None, True), vectors.dtype)
        self._check_window(tokens.shape[1])
        from transformers import DynamicCache

        kept = DynamicCache()
        self._current.base_model(
            inputs_embeds=vectors,
            attention_mask=pairs,
            position_ids=positions,
            past_key_values=kept,
            use_cache=True,
        )
        keys, values = (
            torch.stack([getattr(each, name) for each in kept.layers]) for name in ("keys", "values")
        )
        return Prefix(keys, values, mask != 0)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L, d) input vectors of tokens, added ones among them."""
        table = self._current.get_input_embeddings()
        if not len(self.added):
            vectors: Tensor = table(tokens)
            return vectors
        own, rows = tokens >= self.vocabulary, self._rows("added") * self._scale
        base = table(tokens.clamp(max=self.vocabulary - 1))
        return torch.where(own[..., None], rows[(tokens - self.vocabulary).clamp(min=0)], base)

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return (..., V) logits of all tokens, the added ones last, or (..., K) of the (K,) `ids`."""
        head = None if self.kind == "encoder" else self._current.get_output_embeddings()
        if head is None:
            raise RecloomError("an encoder has no logits of tokens; use kind causal or seq2seq")
        if getattr(self.model.config, "scale_decoder_outputs", False):
            hidden = hidden * self.dim**-0.5
        rows = self._rows("added_out" if self.added_out is not None else "added")  # (n, d)
        if ids is None:
            found = torch.cat([head(hidden), hidden @ rows.T], -1) if len(rows) else head(hidden)
        else:
            weight = head.weight[ids.clamp(max=self.vocabulary - 1)]  # (K, d)
            bias = None if head.bias is None else head.bias[ids.clamp(max=self.vocabulary - 1)]
            if len(rows):
                own = ids >= self.vocabulary
                weight = torch.where(own[:, None], rows[(ids - self.vocabulary).clamp(min=0)], weight)
                bias = None if bias is None else bias.masked_fill(own, 0)
            found = nn.functional.linear(hidden, weight, bias)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return found if cap is None else cap * torch.tanh(found / cap)

    # -- what is trained ------------------------------------------------------------------------------

    def add_tokens(self, n: int) -> Tensor:
        """Add n trainable tokens, such as codes, [ITEM] or soft prompts, and return their (n,) ids.

        They begin as the mean of the known ones with noise of a tenth of their spread. Call it in the constructor of
        a recommender, so that the rows are there when a checkpoint is loaded.
        """
        at_least(1, n=n)
        first = self.vocabulary + len(self.added)
        self.added = self._longer(self.added, self.model.get_input_embeddings().weight, n)
        if self.added_out is not None:
            self.added_out = self._longer(self.added_out, self.model.get_output_embeddings().weight, n)
        return torch.arange(first, first + n)

    def _longer(self, rows: Tensor, known: Tensor, n: int) -> nn.Parameter:
        mean, spread = known.detach().float().mean(0), known.detach().float().std()
        new = mean + 0.1 * spread * torch.randn(n, self.dim, device=known.device)
        return nn.Parameter(torch.cat([rows.detach(), new.to(rows.dtype)]))

    def mark_reference(self) -> None:
        """Keep a frozen copy of what is trained as it is now; a second call replaces the first copy.

        That is a second adapter on the same base and a copy of added rows, or a copy of a model of which everything is
        trained. Call it in the constructor, so that it is there when a checkpoint is loaded, and again when
        preference training begins.
        """
        import copy

        if self.trained == "full":
            self.reference_model = copy.deepcopy(self.model).requires_grad_(False).eval()
        elif self.trained != "frozen":
            layers = adapted_layers(self.model)
            if all(REFERENCE not in getattr(layer, "lora_A", ()) for layer in layers):
                add_adapter(self.model, self.lora, self.trained == "dora", REFERENCE)
            use_adapter(self.model, TRAINED)
            own = dict(self.model.named_parameters(remove_duplicate=False))
            with torch.no_grad():
                for name, copied in own.items():
                    if f".{REFERENCE}" in name:
                        copied.copy_(own[name.replace(f".{REFERENCE}", f".{TRAINED}")]).requires_grad_(False)
        for name in ("added", "added_out"):
            if (rows := getattr(self, name)) is not None:
                self.register_buffer(f"reference_{name}", rows.detach().clone())

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within it, everything is computed by the policy as `mark_reference` kept it, without dropout or gradients."""
        if not hasattr(self, "reference_added"):
            raise RecloomError(
                "there is no reference policy yet; call mark_reference() when preference training begins"
            )
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        self._referring = True
        try:
            with torch.no_grad(), using_adapter(self.model, REFERENCE):
                yield
        finally:
            self._referring = False
            for module, training in modes:
                module.training = training

    def pretrained(self) -> Pretrained:
        """What a recommender's `external_weights` says of this part, below its name."""
        tokens = torch.arange(1, 9, device=self.added.device)[None] % self.vocabulary

        def probe(given: Tensor) -> Tensor:
            with using_adapter(self.model, None):
                hidden = self(given.to(self.added.device))
                return hidden if self.kind == "encoder" else self.logits(hidden, given[0].to(hidden.device))

        names = [name for name, _ in self.named_parameters() if f".{REFERENCE}" in name]
        kept = (*names, "reference_", "added")
        return Pretrained(self.folder, self.fingerprint, tokens, probe, kept)

    def _rows(self, name: str) -> Tensor:
        rows: Tensor = getattr(self, f"reference_{name}" if self._referring else name)
        return rows

    @property
    def _current(self) -> Any:
        return self.reference_model if self._referring and self.reference_model is not None else self.model

    @property
    def _scale(self) -> float:
        """What a model multiplies its input vectors with."""
        return float(getattr(self.model.get_input_embeddings(), "scalar_embed_scale", 1.0))

    @property
    def _first_position(self) -> int:
        """RoBERTa and its kin count positions from behind their padding token."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else padding + 1

    def _check_window(self, length: int) -> None:
        window = getattr(self.model.config, "sliding_window", None)
        kinds = set(getattr(self.model.config, "layer_types", None) or ())
        if window is not None and length > window and "sliding_attention" in kinds:
            raise RecloomError(
                f"layers of this model read the last {window} tokens only, and the sequence has {length}, for which "
                f"masks are not supported. Set max_tokens to at most {window}."
            )

    def _read(self, part: Any, given: dict[str, Any]) -> Tensor:
        hidden: Tensor = part(**given).last_hidden_state
        return hidden
