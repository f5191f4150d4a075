"""SampledTexts: a loss with one text variant of each item sampled at every step (SeRALM, reconstruction)."""

from __future__ import annotations

from recloom.batch import Batch
from recloom.data import Interactions
from recloom.losses import CrossEntropy, Loss
from recloom.nn import ItemEmbedding
from recloom.recommender import Recommender
from torch import Tensor

from .tables import read_posterior, read_variants
from .variants import Variants, reading, sample, text_inputs


class SampledTexts(Loss):
    """A loss whose item vectors are sampled at every step: z_i ~ q_i, and v_i = enc(z_i).

    For recommenders that read items by vector (`item_input` other than `id`). Outside the loss they keep the
    vectors of `--data.vectors`, so that validation and serving sample nothing.

    Args:
        variants: Parquet file of `item_id`, `variant`, `vector`: the texts of each item, encoded.
        posterior: Parquet file of `item_id`, `variant`, `q`; None = uniform.
        base: the loss to compute; None = `CrossEntropy`.
    """

    def __init__(self, variants: str, posterior: str | None = None, base: Loss | None = None) -> None:
        super().__init__()
        self.variants, self.posterior = variants, posterior
        self.base = base or CrossEntropy()
        self._read: tuple[Variants, Tensor] | None = None

    def fit(self, interactions: Interactions) -> None:
        self.base.fit(interactions)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        variants, q = self._tables(text_inputs(recommender)[0])
        with reading(recommender, variants.pick(sample(q))):
            loss: Tensor = self.base(recommender, batch)
        return loss

    def _tables(self, items: ItemEmbedding) -> tuple[Variants, Tensor]:
        if self._read is None:
            variants = read_variants(self.variants, items.catalog).to(items.vectors.device)
            self._read = variants, read_posterior(self.posterior, variants, items.catalog)
        return self._read
