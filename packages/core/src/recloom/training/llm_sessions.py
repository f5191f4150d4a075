"""The sessions of a module whose recommender asks language models: open while it is fitted, measured and predicts."""

from __future__ import annotations

import lightning as L

from ..llm import LLMCallOptions, LLMSessions, Usage
from ..recommender import Recommender


class AskingModule(L.LightningModule):
    """A module that opens sessions with the language models that its recommender asks.

    Attributes:
        llm_call: ledger, limits and the rest of these models; None = as the recommender was configured.
        sessions: open during an evaluation; `llm_sessions` makes others.
        usage: what the last evaluation asked; None where the recommender asks no language model.
    """

    recommender: Recommender
    llm_call: LLMCallOptions | None
    sessions: LLMSessions
    usage: Usage | None

    def __init__(self) -> None:
        super().__init__()
        self.llm_call, self.sessions, self.usage = None, LLMSessions(), None

    def llm_sessions(self) -> LLMSessions:
        """Sessions that a `with` closes; nothing is scored outside of them."""
        return LLMSessions(self.recommender.modules(), self.llm_call)

    def open_sessions(self) -> None:
        """At the beginning of an evaluation."""
        self.sessions.close()  # those of an evaluation that failed
        self.sessions = self.llm_sessions()

    def finish_sessions(self) -> None:
        """At its end: raises Finished where requests were only planned, RecloomError where one got no response."""
        self.usage = self.sessions.usage
        self.sessions.finish()

    def on_predict_epoch_start(self) -> None:
        self.open_sessions()

    def on_predict_epoch_end(self) -> None:
        self.finish_sessions()
