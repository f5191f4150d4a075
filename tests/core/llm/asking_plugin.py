"""A whole plugin: a ranker that lets a language model put the most popular new items of each user in order."""

from __future__ import annotations

import torch
from recloom import hookimpl
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import RecloomError
from recloom.llm import Failure, LLMOptions, LLMRequest, PromptTemplate
from recloom.recommender import Recommender
from torch import Tensor


class AskingRanker(Recommender):
    """Popularity, its `top` items that the user has not met put in order by the answers of a language model."""

    counts: Tensor

    def __init__(self, catalog: Catalog, llm: LLMOptions, top: int = 5, last: int = 5) -> None:
        super().__init__(catalog)
        self.llm, self.top, self.last = llm, top, last
        self.titles = ["", *catalog.items["title"]]
        self.prompt = PromptTemplate(
            name="which-next",
            user="Watched, oldest first:\n<d>{history}</d>\nWhich next?\n<d>{candidates}</d>\nAnswer with a letter.",
            fields={"history": {"type": "lines"}, "candidates": {"type": "lines", "mark": "letter"}},
        )
        self.register_buffer("counts", torch.zeros(catalog.num_items + 1))

    def fit(self, interactions: Interactions) -> None:
        self.counts = interactions.item_counts().float()

    def score(self, batch: Batch) -> Tensor:
        share = self.counts / (1 + self.counts.max())  # (I + 1,) below 1
        fresh = share.expand(len(batch), -1).scatter(1, batch.history, -1)[:, 1:]
        pool = 1 + fresh.topk(self.top).indices  # (B, top)
        result = self.llm.session.ask([self.request(h, p) for h, p in zip(batch.history, pool, strict=True)])
        scores = share.expand(len(batch), -1).clone()
        for row, (items, response) in enumerate(zip(pool, result.responses, strict=True)):
            if not isinstance(response, Failure):  # one that failed ends the evaluation
                scores[row, items] = 1 + torch.tensor(response.scores).exp()
        return scores.gather(1, batch.candidates.expand(len(batch), -1))

    def request(self, history: Tensor, pool: Tensor) -> LLMRequest:
        seen, new = ([self.titles[item] for item in items.tolist() if item] for items in (history, pool))
        messages = tuple(self.prompt.render(history=seen[-self.last :], candidates=new))
        letters = tuple(chr(65 + place) for place in range(self.top))
        return LLMRequest(messages, f"{self.prompt.name}@{self.prompt.version}", options=letters)

    def extend(self, catalog: Catalog) -> None:
        raise RecloomError("AskingRanker ranks popular items alone, and new ones are not popular")


@hookimpl
def register_models() -> list[type[Recommender]]:
    return [AskingRanker]
