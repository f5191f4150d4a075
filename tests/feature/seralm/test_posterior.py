"""The posterior of SeRALM by hand."""

import pytest
import torch
from recloom.errors import RecloomError
from recloom_feature.seralm.variants import centred, posterior, sample, served, uniform

HALF = torch.tensor([[0.5, 0.5]])


def row(rewards, beta, prior=None):
    prior = uniform(torch.ones(1, len(rewards), dtype=torch.bool)) if prior is None else torch.tensor([prior])
    return posterior(torch.tensor([rewards]), beta, prior)[0].tolist()


@pytest.mark.parametrize(
    ("beta", "wanted"),
    [(1.0, [0.7311, 0.2689]), (1e9, [0.5, 0.5]), (float("inf"), [0.5, 0.5]), (1e-6, [1.0, 0.0])],
)
@pytest.mark.fact("A5.1")
def test_posterior_of_rewards_minus_one_and_minus_two(beta, wanted):
    assert row([-1.0, -2.0], beta) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.fact("A5.1")
def test_posterior_maximises_reward_minus_beta_times_the_divergence_from_the_prior():
    rewards, prior, beta = torch.tensor([[0.3, -0.2, 0.1]]), torch.tensor([[0.2, 0.5, 0.3]]), 0.4

    def value(q):
        return float((q * rewards).sum() - beta * (q * (q / prior).log()).sum())

    best = posterior(rewards, beta, prior)
    torch.manual_seed(0)
    others = torch.distributions.Dirichlet(torch.ones(3)).sample((500,))
    assert all(value(best) > value(other[None]) for other in others)


@pytest.mark.parametrize("constant", [-1e4, 3.0, 250.0])
@pytest.mark.fact("A5.2")
def test_a_constant_added_to_all_rewards_changes_nothing(constant):
    rewards = [-1.0, -2.0, 0.5]
    shifted = [r + constant for r in rewards]
    assert row(shifted, 1.0) == pytest.approx(row(rewards, 1.0), abs=1e-3 if abs(constant) > 1e3 else 1e-4)
    exists = torch.ones(1, 3, dtype=torch.bool)
    assert torch.allclose(
        centred(torch.tensor([shifted]), exists), centred(torch.tensor([rewards]), exists), atol=1e-3
    )


@pytest.mark.fact("A5.2")
def test_one_text_is_certain_whatever_its_reward():
    assert row([-7.3], 0.01) == [1.0]
    assert row([float(10**6)], 1.0) == [1.0]


def test_texts_that_do_not_exist_get_nothing_and_an_item_without_texts_stays_zero():
    exists = torch.tensor([[True, True, False], [False, False, False]])
    prior = uniform(exists)
    assert prior.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    q = posterior(torch.tensor([[-1.0, -2.0, 99.0], [5.0, 5.0, 5.0]]), 1.0, prior)
    assert q[0].tolist() == pytest.approx([0.7311, 0.2689, 0.0], abs=5e-5)
    assert q[1].tolist() == [0, 0, 0]


def test_centred_takes_the_mean_over_the_texts_that_exist():
    exists = torch.tensor([[True, True, False], [True, True, True]])
    given = torch.tensor([[1.0, 3.0, 50.0], [1.0, 2.0, 6.0]])
    assert centred(given, exists).tolist() == [[-1, 1, 0], [-2, -1, 3]]


def test_samples_follow_the_posterior_and_never_name_an_absent_text():
    q = torch.tensor([[0.0, 0.0, 0.0], [0.7, 0.3, 0.0], [0.0, 0.25, 0.75]])
    random = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample(q, random) for _ in range(4000)])
    assert not drawn[:, 0].any()
    shares = torch.nn.functional.one_hot(drawn[:, 1:], 3).float().mean(0)
    assert torch.allclose(shares, q[1:], atol=0.03)
    assert shares[0, 2] == 0
    assert shares[1, 0] == 0


def test_the_served_vector_is_the_likeliest_or_the_mean():
    vectors = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 2.0], [4.0, 0.0]]])
    q = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert served(vectors, q, "best").tolist() == [[0, 1], [2, 2]]
    assert served(vectors, q, "mean").tolist() == [[0.25, 0.75], [3, 1]]


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_above_zero(beta):
    with pytest.raises(RecloomError, match="beta must be above 0 nats; found"):
        posterior(torch.zeros(1, 2), beta, HALF)
