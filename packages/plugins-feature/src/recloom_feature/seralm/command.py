"""`recloom seralm ...`: which of several texts of an item helps a sequence recommender. A reconstruction.

SeRALM (Ren et al., SIGIR 2024, doi 10.1145/3626772.3657782) lets a language model describe items for a sequential
recommender, and lets the recommender's feedback choose among the descriptions. Neither code nor figures were available,
only the abstract; this is a reconstruction and not a replication.

    z_i1..K     K texts of item i, sampled from the language model p_phi
    theta       trained with next-item cross-entropy while z_i ~ q_i at every step          loss.py
    r_ik        mean log p_theta(next | history) where item i is read with text k,
                over training positions, minus the mean over k                              rewards.py
    q_i(k)      proportional to p_i(k) exp(r_ik / beta)                                     variants.py

T rounds of these: a round trains with the q_i of the one before, the first with uniform q_i. theta is trained from
scratch in every round, with a seed of its own. phi stays as it is (selection only): it describes each item once, the
rounds choose among its answers, and no language model is trained. p_i is 1 / K, or (`--prior previous`) the q_i of
the round before, which phi would give if it had been trained to; then the evidence of all rounds adds up.

Left out: training phi (weighted SFT, DPO), and asking for the next texts while theta trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from recloom.command import command
from recloom.llm import LLMOptions, TextEncoder


@command("seralm texts")
def texts(
    data: Path,
    *,
    out: Path,
    llm: LLMOptions,
    columns: list[str] | None = None,
    k: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 128,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Sample K texts of each item (SeRALM, a reconstruction).

    A language model writes them, `recloom seralm rounds` chooses among them. One request for each item, with its own
    record alone. An item whose request fails has no texts; the reason is kept beside the file, in the same name
    with `.failures.jsonl`. A second run makes no request, and an interrupted one continues.

    Args:
        data: the prepared dataset.
        out: Parquet file to write: `item_id`, `variant`, `text`, and the `key` of the response in the ledger.
        llm: the language model, what it may cost, and the ledger of its responses.
        columns: columns of an item in its prompt, apart by blanks; by default all text columns.
        k: answers to each request.
        temperature: of sampling, above 0.
        max_tokens: of an answer.
        seed: of sampling.
        overwrite: replace a file that was made from other data or with other options.
    """
    from recloom.data import Catalog, read_unchanged
    from recloom.errors import RecloomError, at_least
    from recloom.llm import GeneratedTable, LLMSession, TableTarget, generate_table

    from ..next_steps import seralm_rounds
    from .texts import MADE_FROM, answers_table, item_requests

    at_least(1, k=k, max_tokens=max_tokens)
    if not temperature > 0:
        raise RecloomError(f"temperature must be above 0, or all {k} texts are the same; found {temperature}")
    card = read_unchanged(data)
    ids, requests = item_requests(Catalog.load(data), columns, k, temperature, max_tokens, seed)
    recipe: dict[str, Any] = {
        "data_hash": card.data_hash(), "prompt": requests[0].prompt, "model": dict(llm.model.identity),
        "columns": columns, "k": k, "temperature": temperature, "max_tokens": max_tokens, "seed": seed,
    }  # fmt: skip

    def ask(session: LLMSession) -> GeneratedTable:
        return answers_table(ids, session.ask(requests, progress="texts"))

    target = TableTarget(out, MADE_FROM, recipe)
    generate_table(llm, target, ask, overwrite=overwrite, then=seralm_rounds(data, out))


@command("seralm rounds")
def rounds(
    data: Path,
    *,
    out: Path,
    texts: Path,
    encoder: TextEncoder | None = None,
    times: int = 2,
    beta: float = 1.0,
    prior: Literal["previous", "llm"] = "previous",
    draws: int = 4,
    serve: Literal["best", "mean"] = "best",
    model: str | None = None,
    item_input: Literal["vector", "id+vector", "gated"] | None = None,
    fit: Path | None = None,
    max_epochs: int = 50,
    seed: int = 0,
) -> None:
    """Choose among texts of items (SeRALM, a reconstruction).

    SeRALM lets a recommender's feedback choose the best of several texts of an item.
    Use the result with `recloom fit --model SASRec --model.recommender.item_input id+vector --data.vectors
    OUT/vectors.parquet`, which needs no language model. A second run continues where the first one stopped.

    Args:
        data: the prepared dataset.
        out: folder of the work: texts, their vectors, and each round's fit, rewards and posterior.
        texts: Parquet file of `item_id`, `variant` (0, 1, ...) and `text`, as `recloom seralm texts` writes it.
        encoder: what turns a text into a vector, such as `SentenceTransformers`; by default hashed n-grams.
        times: rounds of training, reward and choice; a finished folder may be given more.
        beta: nats of reward that make a text e times as likely; small values choose one text alone.
        prior: the prior of a posterior: the posterior of the round before (`previous`), as if the language
            model had been trained to give it; or that of the language model (`llm`), uniform.
        draws: passes over the training data for each text and half of the items; more of them, less noise.
        serve: the vector of the likeliest text (`best`), or the mean of all under the posterior (`mean`).
        model: a causal sequence recommender, by default that of `fit`, else SASRec.
        item_input: how it reads items, see `recloom.nn.item_embedding`; by default as in `fit`, else `id+vector`.
        fit: YAML file as of `recloom fit --config`, for hyper-parameters, a loss, the split and the rest.
        max_epochs: of each fit, unless set in its file.
        seed: of everything random.
    """
    from recloom.data import Catalog, read_card
    from recloom.errors import at_least
    from recloom.llm import HashingNgrams
    from recloom.spec import find

    from .rewards import check_causal
    from .rounds import Rounds, finish, recipe
    from .tables import WorkFolder, read_variants
    from .texts import encode_texts, given_texts, texts_identity
    from .variants import check_beta

    at_least(1, times=times, draws=draws, max_epochs=max_epochs)
    check_beta(beta)
    catalog, chosen, trained = Catalog.load(data), encoder or HashingNgrams(), recipe(fit, model, item_input)
    check_causal(find("register_models", trained.model))
    found = given_texts(texts, catalog)
    folder = WorkFolder(out)
    folder.claim(
        {"dataset": read_card(data).data_hash(), "texts": texts_identity(found), "encoder": chosen.identity}
        | {"fit": trained.as_data(), "max_epochs": max_epochs, "seed": seed}
        | {"beta": beta, "prior": prior, "draws": draws}
    )
    encode_texts(found, chosen, folder)
    variants = read_variants(folder.file("variants.parquet"), catalog)
    work = Rounds(data, catalog, variants, folder, trained, max_epochs, seed, beta, prior, draws)
    finish(work, work.run(times), serve, chosen, fit)
