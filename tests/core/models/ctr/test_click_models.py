"""DIN, DCNv2 and DeepFM: their formulas by hand, and what they share."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import LogLoss
from recloom.models.ctr import DIN, DCNv2, DeepFM
from recloom.models.ctr.click_model import ClickModel
from recloom.models.ctr.dcnv2 import Cross
from recloom.models.ctr.deepfm import products
from recloom.models.ctr.layers import Dice
from recloom.schemas import EventCodes
from torch import nn

CATALOG = Catalog(
    pl.DataFrame({"item_id": [f"i{n}" for n in range(1, 7)], "kind": ["x", "y"] * 3}),
    pl.DataFrame({"user_id": ["a", "b", "c"], "sex": ["f", "m", "f"]}),
)
MODELS = {
    "DIN": lambda **more: DIN(CATALOG, dim=3, hidden=(5,), attention=(4,), **more),
    "parallel": lambda **more: DCNv2(CATALOG, dim=3, hidden=(5,), num_layers=2, **more),
    "stacked": lambda **more: DCNv2(CATALOG, dim=3, hidden=(5,), num_layers=2, structure="stacked", **more),
    "DeepFM": lambda **more: DeepFM(CATALOG, dim=3, hidden=(5,), **more),
}


@pytest.fixture(params=MODELS)
def model(request) -> ClickModel:
    torch.manual_seed(0)
    made = MODELS[request.param]()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


def batch(candidates=((1, 2, 3), (4, 5, 6))) -> Batch:
    return Batch.of(torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor(candidates), user=torch.tensor([1, 2]))


# -- formulas -----------------------------------------------------------------------------------------


def test_products_of_fields_by_hand():
    # <(1, 2), (3, 4)> + <(1, 2), (-1, 0)> + <(3, 4), (-1, 0)> = 11 - 1 - 3
    assert products(torch.tensor([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.0]])).item() == 7


def test_deepfm_is_first_order_plus_products_plus_network():
    model = DeepFM(CATALOG, dim=1, hidden=(1,), user_fields=("user_id",), item_fields=("item_id",))
    with torch.no_grad():
        model.users.vectors[0].weight[1] = torch.tensor([2.0, 0.1])  # v, w
        model.items.vectors[0].weight[1] = torch.tensor([3.0, 0.2])
        model.items.vectors[0].weight[2] = torch.tensor([5.0, 0.4])
        model.bias.fill_(0.5)
        model.mlp[0].weight[:] = torch.tensor([[1.0, 1.0, 1.0]])
        model.mlp[0].bias.fill_(-1.0)
        model.mlp[3].weight.fill_(0.25)
        model.mlp[3].bias.zero_()
    given = Batch.of(torch.tensor([[0, 1]]), torch.tensor([[2]]), user=torch.tensor([1]))
    # fields v: user 2, candidate 5, history 3; products 10 + 6 + 15; network .25 (10 - 1)
    expected = 0.5 + (0.1 + 0.4 + 0.2) + 31 + 2.25
    assert model.eval().score(given).item() == pytest.approx(expected, abs=1e-5)


def test_a_cross_layer_by_hand():
    cross = Cross(2, 2)
    with torch.no_grad():
        for layer in cross.layers:
            layer.weight[:] = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
            layer.bias[:] = torch.tensor([1.0, -1.0])
    # x0 = (2, 3): W x0 + b = (9, 2), x1 = (2 * 9 + 2, 3 * 2 + 3) = (20, 9)
    # W x1 + b = (39, 8), x2 = (2 * 39 + 20, 3 * 8 + 9) = (98, 33)
    assert cross(torch.tensor([2.0, 3.0])).tolist() == [98, 33]


def test_the_attention_of_din_by_hand():
    model = DIN(
        CATALOG,
        dim=2,
        hidden=(1,),
        attention=(1,),
        activation="relu",
        user_fields=(),
        item_fields=("item_id",),
    )
    with torch.no_grad():
        # relu(h_1 + 10 c_2 + (h - c)_2 + 2 (h * c)_1 - 1) * .5 + .25
        model.attention[0].weight[:] = torch.tensor([[1.0, 0, 0, 10, 0, 1, 2, 0]])
        model.attention[0].bias.fill_(-1.0)
        model.attention[3].weight.fill_(0.5)
        model.attention[3].bias.fill_(0.25)
    history = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, -1.0]]])
    real = torch.tensor([[False, True, True]])
    candidate = torch.tensor([[[2.0, 1.0]]])
    # h = (1, 2): 1 + 10 + 1 + 4 - 1 = 15, a = 7.75; h = (3, -1): 3 + 10 - 2 + 12 - 1 = 22, a = 11.25
    expected = [7.75 * 1 + 11.25 * 3, 7.75 * 2 - 11.25]
    for mode in (True, False):
        found = model.train(mode).interest(history, real, candidate)
        assert found[0, 0].tolist() == pytest.approx(expected)


def test_dice_by_hand():
    dice = Dice(1)
    with torch.no_grad():
        dice.alpha.fill_(0.5)
    # mean 2, variance 1: p = sigmoid(-1), sigmoid(1)
    low, high = (1 / (1 + math.exp(z)) for z in (1, -1))
    expected = [1 * (low + (1 - low) * 0.5), 3 * (high + (1 - high) * 0.5)]
    assert dice(torch.tensor([[1.0], [3.0]]))[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert dice(torch.tensor([[4.0]])).isfinite().all()  # a batch of one has no variance
    dice.eval()
    assert torch.equal(dice(torch.tensor([[1.0], [9.0]]))[:1], dice(torch.tensor([[1.0]])))


@pytest.mark.parametrize("mode", [True, False])
def test_padding_enters_no_statistic_of_din(mode):
    torch.manual_seed(0)
    model = MODELS["DIN"]().train(mode)
    short = batch()
    wide = Batch.of(
        torch.cat([torch.zeros(2, 4, dtype=torch.long), short.history], 1), short.candidates, user=short.user
    )
    scores = []
    for given in (short, wide):
        copy = MODELS["DIN"]()
        copy.load_state_dict(model.state_dict())
        scores.append(copy.train(mode).score(given))
    assert torch.allclose(*scores, atol=1e-6)


# -- what they share ----------------------------------------------------------------------------------


def test_many_candidates_are_scored_in_parts(model, monkeypatch):
    with torch.no_grad():
        whole = model.score(batch())
        monkeypatch.setattr("recloom.models.ctr.click_model.AT_ONCE", 1)
        assert len(list(model.parts(batch()))) == 3
        assert torch.allclose(model.score(batch()), whole, atol=1e-6)
    assert len(list(model.parts(batch()))) == 1  # gradients need them all


def test_extra_input_widens_the_final_network_and_is_asked_for(model):
    before, size = model.score(batch()), model.mlp[0].in_features
    model.widen(4)
    assert model.mlp[0].in_features == size + 4
    with pytest.raises(RecloomError, match="expects 4 extra inputs of its final network, found 0"):
        model.score(batch())
    nothing = torch.zeros(2, 3, 4)
    assert torch.allclose(model.logits(batch(), nothing), before, atol=1e-6)
    assert not torch.allclose(model.logits(batch(), nothing + 1), before, atol=1e-3)


def test_users_and_items_without_training_are_known_by_their_fields(model):
    frame = pl.DataFrame({"user_id": ["b"] * 2, "item_id": ["i1", "i2"], "value": [5.0, 1.0]})
    model.fit(Interactions.from_frame(frame, CATALOG))
    with torch.no_grad():
        scores = model.score(
            Batch.of(torch.tensor([[1], [1]]), torch.tensor([[1, 3, 4, 5]]), user=torch.tensor([1, 3]))
        )
    assert torch.allclose(scores[0], scores[1], atol=1e-6)  # a and c are both f
    assert scores[0, 1].item() == pytest.approx(scores[0, 3].item(), abs=1e-6)  # i3 and i5 are both x
    assert abs(scores[0, 0] - scores[0, 1]) > 1e-4  # i1 has a vector of its own


@pytest.mark.parametrize("name", MODELS)
def test_fields_are_chosen_by_column(name):
    chosen = MODELS[name](item_fields=("kind",), user_fields=())
    assert (len(chosen.items), chosen.users) == (1, None)
    scores = chosen.eval().score(batch(((1, 3, 2), (4, 6, 5))))
    assert scores[0, 0].item() == pytest.approx(scores[0, 1].item(), abs=1e-6)
    with pytest.raises(RecloomError, match="no column 'mood'"):
        MODELS[name](item_fields=("mood",))
    with pytest.raises(RecloomError, match="item_fields names no column"):
        MODELS[name](item_fields=())


def test_cold_start_users_get_the_share_of_likes_as_a_logit():
    model = MODELS["DeepFM"]()
    rows = [("a", "i1", 5.0)] * 9 + [("b", "i1", 1.0)] + [("b", "i2", 1.0)] * 10
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "value"], orient="row")
    interactions = Interactions.from_frame(frame, CATALOG)
    interactions.positive = 4.0
    average = 10 / 22
    chances = model.cold_start_scores(interactions).sigmoid()
    expected = [(9 + 10 * average) / 20, (0 + 10 * average) / 20, average]
    assert chances[1:4].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": ()}, "hidden needs at least one size"), ({"dim": 0}, "dim"), ({"max_len": 0}, "max_len")],
)
def test_bad_sizes_are_refused(options, message):
    for kind in (DIN, DCNv2, DeepFM):
        with pytest.raises(RecloomError, match=message):
            kind(CATALOG, **options)


# -- log loss -----------------------------------------------------------------------------------------


class Fixed(ClickModel):
    """Scores that were given."""

    def __init__(self, scores):
        nn.Module.__init__(self)
        self.scores = scores

    def score(self, batch):
        return self.scores


def test_log_loss_by_hand_without_padded_candidates():
    given = batch(((1, 2, 0), (3, 0, 0)))
    given.labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    scores = torch.tensor([[0.0, 1.0, 50.0], [-2.0, 50.0, 50.0]])
    # -log .5, -log(1 - sigmoid(1)), -log sigmoid(-2)
    expected = (math.log(2) + math.log(1 + math.e) + math.log(1 + math.exp(2))) / 3
    assert LogLoss()(Fixed(scores), given).item() == pytest.approx(expected, abs=1e-6)


def test_log_loss_needs_labels():
    given = batch()
    given.labels = torch.tensor([[1], [2]])
    with pytest.raises(RecloomError, match="LogLoss compares scores with a label for each candidate"):
        LogLoss()(Fixed(torch.zeros(2, 3)), given)


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_before_events_were_read_score_as_they_did(name):
    rated = Catalog(
        CATALOG.items, CATALOG.users, events=EventCodes(column="value", names=["1", "5"], cuts=[3])
    )
    kind, options = type(MODELS[name]()), {"dim": 3, "hidden": (5,)}
    torch.manual_seed(0)
    before, now = (kind(rated, **options, events=events) for events in (False, True))
    for parameter in before.parameters():
        nn.init.normal_(parameter, std=0.5)
    given = batch()
    given.history_event = torch.tensor([[0, 1, 2], [2, 1, 2]])
    wanted = before.eval().score(given)
    with pytest.warns(
        UserWarning, match=f"this {kind.__name__} was trained before click models read what happened"
    ):
        now.load_state_dict(before.state_dict())
    torch.testing.assert_close(now.eval().score(given), wanted)
    assert now.inputs == before.inputs == ("user", "history")
    whole = kind(rated, **options)
    again = kind(rated, **options)
    again.load_state_dict(whole.state_dict())
    assert again.events is not None


def test_an_exported_graph_is_told_how_many_requests_fit_into_memory(monkeypatch):
    model = MODELS["DIN"](max_len=10)
    numbers = 8 * model.width * 10 * CATALOG.num_items
    wide = DIN(CATALOG, dim=3, max_len=10, attention=(7, 400, 3))
    assert wide.numbers(Batch.of(torch.zeros(1, 10, dtype=torch.long))) == 5 * 400 * 10
    monkeypatch.setattr("recloom.models.ctr.click_model.EXPORTED", 5 * numbers)
    assert model.export().rows == 5
    monkeypatch.setattr("recloom.models.ctr.click_model.EXPORTED", 1)
    with pytest.warns(UserWarning, match=r"one request to the exported file takes about .* GB of memory"):
        assert model.export().rows == 1
