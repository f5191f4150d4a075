"""GraphData: sets of graphs in OGB's layout."""

from __future__ import annotations

from pathlib import Path

from recloom.data.batches import BatchSampler
from recloom.errors import DataError, at_least
from recloom.training import TaskData
from torch import Tensor, randperm
from torch.utils.data import DataLoader

from .graph_set import GraphBatch, GraphSet
from .node_graph import PARTS
from .ogb import read_graphs, set_folder


class GraphData(TaskData):
    """Graphs with a label each, in OGB's layout.

    Args:
        path: folder with `raw` and `split`; or a folder of such sets.
        name: of the set among them, such as `ogbg-molhiv`, which is fetched if it is not there.
        batch_size: graphs of a training batch.
        seed: of the order of training.
    """

    def __init__(self, path: str, name: str = "", batch_size: int = 32, seed: int = 0) -> None:
        super().__init__(path, name, seed)
        at_least(1, batch_size=batch_size)
        self.batch_size = batch_size
        self._graphs: GraphSet | None = None

    @property
    def graphs(self) -> GraphSet:
        """The graphs, read when they are first asked for."""
        if self._graphs is None:
            self._graphs = read_graphs(set_folder(Path(self.path), self.name, "graphproppred"))
            for part in PARTS:
                if not len(self._graphs.parts[part]):
                    raise DataError(f"{self.path}: the {part} part of the split is empty")
        return self._graphs

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs."""
        assert self.graphs

    def protocol(self) -> dict[str, str | int | float]:
        graphs = self.graphs
        return {
            "data": self.name or Path(self.path).name,
            "data_hash": graphs.digest(),
            "split": graphs.split,
            **{f"{part}_graphs": len(graphs.parts[part]) for part in PARTS},
            "tasks": graphs.labels.shape[1],
        }

    def train_dataloader(self) -> DataLoader[GraphBatch]:
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader[GraphBatch]:
        return self._loader("valid", 256)

    def test_dataloader(self) -> DataLoader[GraphBatch]:
        return self._loader("test", 256)

    def _loader(self, part: str, size: int) -> DataLoader[GraphBatch]:
        rows = self.graphs.parts[part]
        draw = (lambda generator: randperm(len(rows), generator=generator)) if part == "train" else None
        sampler = BatchSampler(len(rows), size, draw, seed=self.seed)
        return DataLoader(_Part(self.graphs, rows), batch_size=None, sampler=sampler)  # type: ignore[arg-type]


class _Part:
    """The graphs of one part, a batch at a time."""

    def __init__(self, graphs: GraphSet, rows: Tensor) -> None:
        self.graphs, self.rows = graphs, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Tensor) -> GraphBatch:
        return self.graphs[self.rows[places]]
