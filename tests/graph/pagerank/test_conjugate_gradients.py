import pytest
import torch
from recloom.errors import RecloomError
from recloom_graph.graphs.graph import Graph
from recloom_graph.pagerank.conjugate_gradients import fixed_point

DAMPING = 0.85


def walk(size: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """The walk of a ring with random weights, on which news travels slowly, and the strength of its nodes."""
    weights = torch.rand(size, generator=torch.Generator().manual_seed(0)) + 0.1
    nodes = torch.arange(size)
    graph = Graph(nodes, (nodes + 1) % size, size, weights, directed=False)
    return graph.transition, graph.degree


def counted(matrix: torch.Tensor, products: list[int]):
    def step(x: torch.Tensor) -> torch.Tensor:
        products.append(1)
        return DAMPING * (matrix @ x)

    return step


def test_by_hand_on_two_nodes():
    """Restarting at one of two joined nodes: r_1 = 1/(1 + damping), r_2 = damping/(1 + damping)."""
    matrix = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    start = (1 - DAMPING) * torch.tensor([[1.0], [0.0]])
    found = fixed_point(counted(matrix, []), start, torch.ones(2), 1e-6, 9)
    assert found[:, 0].tolist() == pytest.approx([1 / 1.85, 0.85 / 1.85])


def test_it_solves_the_equation_in_fewer_products_than_power_iteration():
    matrix, strength = walk()
    start = torch.eye(50)[:, :8]
    products: list[int] = []
    found = fixed_point(counted(matrix, products), (1 - DAMPING) * start, 1 / strength, 1e-6, 100)
    dense = torch.eye(50).double() - DAMPING * matrix.to_dense().double()
    exact = torch.linalg.solve(dense, (1 - DAMPING) * start.double())
    assert torch.allclose(found.double(), exact, atol=1e-6)
    assert 5 < len(products) < 50
    power = start
    for _ in range(2 * len(products)):
        power = DAMPING * (matrix @ power) + (1 - DAMPING) * start
    assert (power - exact).abs().max() > 10 * (found - exact).abs().max()


def test_too_few_steps_are_an_error_not_a_wrong_answer():
    matrix, strength = walk()
    with pytest.raises(RecloomError, match=r"still change after 2 steps.* smaller damping"):
        fixed_point(counted(matrix, []), torch.eye(50)[:, :8], 1 / strength, 1e-6, 2)


def test_a_column_that_is_done_stays_as_it_is():
    matrix, strength = walk()
    start = (1 - DAMPING) * torch.stack(
        [strength / strength.sum(), torch.eye(50)[0]], 1
    )  # the first is an eigenvector
    both = fixed_point(counted(matrix, []), start, 1 / strength, 1e-5, 100)
    first = fixed_point(counted(matrix, []), start[:, :1], 1 / strength, 1e-5, 1)
    assert torch.allclose(both[:, :1], first, atol=1e-7)
    assert both.isfinite().all()
    none = fixed_point(counted(matrix, []), torch.zeros(50, 2), 1 / strength, 1e-9, 20)
    assert torch.equal(none, torch.zeros(50, 2))
