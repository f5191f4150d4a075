"""`recloom seralm`: which of several texts of an item helps a sequence recommender. A reconstruction.

SeRALM (Ren et al., SIGIR 2024, doi 10.1145/3626772.3657782) lets a language model describe items for a sequential
recommender, and lets the recommender's feedback say which descriptions help. No code and no figures of it could be
read, only its abstract; what follows is our own reading of it, and not a replication.

    z_i1..K     K texts of item i, sampled from the language model p_phi
    theta       trained with next-item cross-entropy while z_i ~ q_i at every step          seralm_loss.py
    r_ik        mean log p_theta(next | history) where item i is read with text k,
                over training positions, minus the mean over k                              seralm_rewards.py
    q_i(k)      proportional to exp(r_ik / beta)                                            seralm_posterior.py

T rounds of these; q_i of one round is what the next one trains with, the first trains with every text alike. theta
begins anew in every round. phi stays as it is (selection only): the rounds choose among the texts that were sampled
first and train no language model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recloom.command import command
from recloom.language import TextEncoder


@command("seralm")
def seralm(
    data: Path,
    *,
    out: Path,
    texts: Path | None = None,
    encoder: TextEncoder | None = None,
    rounds: int = 2,
    beta: float = 1.0,
    draws: int = 4,
    serve: Literal["best", "mean"] = "best",
    model: str | None = None,
    item_input: Literal["vector", "id+vector", "gated"] | None = None,
    fit: Path | None = None,
    max_epochs: int = 50,
    seed: int = 0,
) -> None:
    """Choose among several texts of each item by how they help a recommender (SeRALM, a reconstruction).

    Use the result with `recloom fit --model SASRec --model.recommender.item_input id+vector --data.vectors
    OUT/vectors.parquet`, which asks no language model. A second run goes on where the first one stopped.

    Args:
        data: the prepared dataset.
        out: folder of the work: texts, their vectors, and each round's fit, rewards and posterior.
        texts: Parquet file of `item_id`, `variant` (0, 1, ...) and `text`.
        encoder: what turns a text into a vector, such as `SentenceTransformers`; by default hashed n-grams.
        rounds: how often to train, reward and choose; a finished folder may be given more.
        beta: nats of reward that make a text e times as likely; small values choose one text alone.
        draws: passes over the training data for each text and half of the items; more of them, less noise.
        serve: the vector of the likeliest text (`best`), or the mean of all under the posterior (`mean`).
        model: a causal sequence recommender, by default that of `fit`, else SASRec.
        item_input: how it reads items, see `recloom.item_embedding`; by default as in `fit`, else `id+vector`.
        fit: YAML file as of `recloom fit --config`, for hyper-parameters, a loss, the split and the rest.
        max_epochs: of each fit, unless its file says.
        seed: of everything random.
    """
    from recloom.data.catalog import Catalog
    from recloom.data.prepare import read_card
    from recloom.errors import at_least
    from recloom.language.hashing import HashingNgrams

    from .seralm_fit import recipe
    from .seralm_folder import Folder
    from .seralm_posterior import check_beta
    from .seralm_report import finish
    from .seralm_rounds import Rounds
    from .seralm_texts import encode_texts, given_texts, told

    at_least(1, rounds=rounds, draws=draws, max_epochs=max_epochs)
    check_beta(beta)
    catalog, chosen, trained = Catalog.load(data), encoder or HashingNgrams(), recipe(fit, model, item_input)
    found = given_texts(texts, catalog)
    folder = Folder(out)
    folder.claim(
        {"dataset": read_card(data).data_hash(), "texts": told(found), "encoder": chosen.identity}
        | {"fit": trained.as_data(), "max_epochs": max_epochs, "seed": seed, "beta": beta, "draws": draws}
    )
    encode_texts(found, chosen, folder)
    reports = Rounds(data, folder, trained, max_epochs, seed, beta, draws).run(rounds)
    finish(data, folder, catalog, reports, serve, beta)
