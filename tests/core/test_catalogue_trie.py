"""The trie of a catalogue, and the beam and the samples that follow it."""

import itertools
import math

import pytest
import torch
from recloom.errors import RecloomError
from recloom.nn import CatalogueTrie, beam_search, path_log_probs, sample_paths

UNEVEN = [[3], [1, 2], [1], [1, 2, 0], [0, 4, 4, 4], [2, 1]]
EVEN = [[*codes] for codes in itertools.product(range(3), repeat=3)][::2]


def random_paths(items, codes, depth, seed):
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, depth + 1, (4 * items,), generator=random).tolist()
    found = {tuple(torch.randint(codes, (size,), generator=random).tolist()) for size in sizes}
    return [list(path) for path in sorted(found, key=hash)][:items]


def table_step(rows, codes, seed, scale=2.0):
    """Log-probabilities of the next code that depend on the request, the code before and how many came before."""
    random = torch.Generator().manual_seed(seed)
    of_request = scale * torch.randn(rows, codes, generator=random)
    of_last = scale * torch.randn(codes + 1, codes, generator=random)
    of_depth = scale * torch.randn(12, codes, generator=random)

    def step(said):
        depth = said.shape[2]
        last = said[:, :, -1] if depth else torch.full(said.shape[:2], codes)
        return (of_request[:, None] + of_last[last] + of_depth[depth]).log_softmax(-1)

    return step


@pytest.mark.fact("B15.1")
@pytest.mark.parametrize(("paths", "end"), [(UNEVEN, 5), (EVEN, None), ([[7]], None)])
def test_paths_and_items_are_inverse(paths, end):
    trie = CatalogueTrie(paths, end)
    for item, path in enumerate(paths, 1):
        whole = path + ([] if end is None else [end])
        assert trie.codes[item].tolist() == whole + [-1] * (trie.codes.shape[1] - len(whole))
        node = torch.tensor([0])
        for code in whole:
            assert int(trie.item[node]) == 0
            owner, edge = trie.edges(node)
            assert not owner.any()
            children = trie.edge_code[edge].tolist()
            assert children == sorted(set(children))
            node = edge[trie.edge_code[edge] == code] + 1
        assert trie.item[node].tolist() == [item]
        assert not len(trie.edges(node)[0])
    assert sorted(trie.item[trie.item > 0].tolist()) == list(range(1, len(paths) + 1))
    assert len(trie.item) == len(trie.edge_code) + 1


def test_a_node_is_alive_while_one_item_below_it_is_not_masked():
    trie = CatalogueTrie(UNEVEN, end=5)
    masked = torch.zeros(2, 7, dtype=torch.bool)
    masked[0, [2, 3, 4]] = True  # all paths that begin with 1
    masked[1, [2, 3]] = True
    sums = trie.masked_sums(masked)
    owner, edge = trie.edges(torch.zeros(2, dtype=torch.long))
    alive = trie.alive(edge + 1, sums[owner])
    assert trie.edge_code[edge[owner == 0]].tolist() == [0, 1, 2, 3]
    assert alive.tolist() == [True, False, True, True, True, True, True, True]
    masked[1] = True
    assert not trie.alive(torch.tensor([0]), trie.masked_sums(masked)[1:]).any()


@pytest.mark.parametrize(
    ("paths", "end", "message"),
    [
        (
            [[1, 2], [3], [1, 2]],
            None,
            r"items 1 and 3 have the same path: \[1, 2\]. Give each item a path of its own",
        ),
        ([[1, 2], [3], [1, 2]], 9, "items 1 and 3 have the same path"),
        (
            [[1, 2], [3], [1]],
            None,
            "items 1 and 3 have paths of which one begins with the other.*or an end marker",
        ),
        ([[1], []], 9, "at least one code for each"),
        ([], None, "needs items"),
        ([[1, 9]], 9, "not the end marker 9"),
        ([[-1]], None, "codes are at least 0"),
    ],
)
def test_paths_that_make_no_trie_are_refused(paths, end, message):
    with pytest.raises(RecloomError, match=message):
        CatalogueTrie(paths, end)


def exact(trie, step, rows):
    every = torch.arange(1, trie.num_items + 1).expand(rows, -1)
    return path_log_probs(trie, step, every)


def test_log_probabilities_of_paths_are_sums_over_their_codes():
    trie, step = CatalogueTrie(UNEVEN, end=5), table_step(2, 6, 0)
    found = path_log_probs(trie, step, torch.tensor([[4, 1], [0, 5]]))
    for row, column, path in ((0, 0, [1, 2, 0, 5]), (0, 1, [3, 5]), (1, 1, [0, 4, 4, 4, 5])):
        by_hand = 0.0
        for at, code in enumerate(path):
            by_hand += float(step(torch.tensor([[path[:at]]] * 2))[row, 0, code])
        assert float(found[row, column]) == pytest.approx(by_hand, abs=1e-5)
    assert found[1, 0] == -math.inf


@pytest.mark.fact("B15.2")
@pytest.mark.parametrize(("paths", "end", "codes"), [(UNEVEN, 5, 6), (EVEN, None, 3)])
def test_a_beam_as_large_as_the_catalogue_ranks_as_scoring_every_path(paths, end, codes):
    trie, rows = CatalogueTrie(paths, end), 40
    step, n = table_step(rows, codes, 1), len(paths)
    items, scores = beam_search(trie, step, rows, n, beam=n)
    wanted, order = exact(trie, step, rows).sort(1, descending=True)
    assert torch.equal(items, order + 1)
    torch.testing.assert_close(scores, wanted)
    few, best = beam_search(trie, step, rows, 3, beam=n)
    assert torch.equal(few, items[:, :3])
    torch.testing.assert_close(best, scores[:, :3])


@pytest.mark.fact("B15.3")
def test_every_path_of_every_beam_is_an_item_and_comes_once():
    decoded = 0
    for seed in range(25):
        paths = random_paths(30, 5, 4, seed)
        trie, rows = CatalogueTrie(paths, end=5), 20
        step = table_step(rows, 6, seed)
        for beam in (1, 2, 7, 40):
            items, scores = beam_search(trie, step, rows, beam, beam=beam)
            decoded += rows
            shown = items > 0
            assert torch.equal(shown.sum(1), torch.full((rows,), min(beam, len(paths))))
            assert all(len(set(row[row > 0].tolist())) == int((row > 0).sum()) for row in items)
            assert items.max() <= len(paths)
            torch.testing.assert_close(
                scores[shown], path_log_probs(trie, step, items)[shown], atol=1e-4, rtol=1e-4
            )
            assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert decoded >= 1000


@pytest.mark.fact("B15.4")
def test_masked_items_are_a_set_and_leave_the_ranking_of_the_others_as_it_is():
    for seed in range(10):
        paths = random_paths(25, 4, 4, seed)
        trie, rows, n = CatalogueTrie(paths, end=4), 12, len(paths)
        step = table_step(rows, 5, seed)
        random = torch.Generator().manual_seed(seed)
        masked = torch.rand(rows, n + 1, generator=random) < torch.linspace(0, 1, rows)[:, None]
        masked[-1] = True
        whole, _ = beam_search(trie, step, rows, n, beam=n)
        items, scores = beam_search(trie, step, rows, n, beam=n, masked=masked)
        for row, every, hidden, values in zip(items.tolist(), whole.tolist(), masked, scores, strict=True):
            wanted = [item for item in every if not hidden[item]]
            assert row == wanted + [0] * (n - len(wanted))
            assert values[len(wanted) :].isneginf().all()
            assert values[: len(wanted)].isfinite().all()
        for beam in (1, 3, 6):  # as many as are allowed, up to the beam
            few, _ = beam_search(trie, step, rows, beam, beam=beam, masked=masked)
            assert torch.equal((few > 0).sum(1), (~masked[:, 1:]).sum(1).clamp(max=beam))
            assert not masked.gather(1, few)[few > 0].any()


def test_a_beam_below_k_is_refused():
    with pytest.raises(RecloomError, match="a beam of 2 cannot give 3 items; set it to at least 3"):
        beam_search(CatalogueTrie(EVEN), table_step(1, 3, 0), 1, 3, beam=2)


def test_samples_have_the_probabilities_of_legal_paths():
    trie, step = CatalogueTrie([[0], [1, 0], [1, 1], [2, 2, 2]], end=3), table_step(1, 4, 3, scale=0.7)
    masked = torch.tensor([[False, False, False, True, False]])
    random = torch.Generator().manual_seed(0)
    items, scores = sample_paths(trie, step, 1, 20_000, masked=masked, generator=random)
    wanted = {1: 1.0, 2: 1.0, 4: 1.0}
    for item, path in ((1, [0, 3]), (2, [1, 0, 3]), (4, [2, 2, 2, 3])):
        for at, code in enumerate(path):
            log_probs = step(torch.tensor([[path[:at]]]))[0, 0]
            legal = {0: [0, 1, 2], 1: {0: [3], 1: [0], 2: [2]}[path[0]]}.get(at, [code])
            wanted[item] *= float(log_probs[code].exp() / log_probs[legal].exp().sum())
    assert sum(wanted.values()) == pytest.approx(1)
    shares = torch.bincount(items[0], minlength=5) / 20_000
    for item, probability in wanted.items():
        assert float(shares[item]) == pytest.approx(probability, abs=4 * math.sqrt(0.25 / 20_000))
    assert float(shares[3]) == pytest.approx(0)
    torch.testing.assert_close(scores, path_log_probs(trie, step, items))
    none, low = sample_paths(trie, step, 1, 3, masked=torch.ones(1, 5, dtype=torch.bool))
    assert none.tolist() == [[0, 0, 0]]
    assert low.isneginf().all()
