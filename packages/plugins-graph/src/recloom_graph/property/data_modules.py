"""Data modules of NodeProperty and GraphProperty: sets in the layouts of Planetoid and of OGB."""

from __future__ import annotations

from pathlib import Path

from recloom.data.batches import BatchSampler
from recloom.errors import DataError, at_least
from recloom.training import TaskData
from torch import Tensor, randperm
from torch.utils.data import DataLoader

from .labelled_graphs import PARTS, GraphBatch, GraphSet, NodeGraph
from .ogb import is_ogb, read_graphs, read_nodes, set_folder
from .planetoid import is_planetoid, read_planetoid


class NodeData(TaskData):
    """One graph with labelled nodes, in the layout of Planetoid or of OGB.

    Args:
        path: folder that holds the files.
        name: of the set among them, such as `cora`; or `ogbn-arxiv`, which is fetched if it is not there.
        seed: of everything random.
    """

    def __init__(self, path: str, name: str = "", seed: int = 0) -> None:
        super().__init__(path, name, seed)
        self._graph: NodeGraph | None = None

    @property
    def graph(self) -> NodeGraph:
        """The graph, read when it is first asked for."""
        if self._graph is None:
            self._graph = self.read()
            for part in PARTS:
                if not len(self._graph.parts.get(part, ())):
                    raise DataError(f"{self.path}: the {part} part of the split is empty")
        return self._graph

    def read(self) -> NodeGraph:
        """Read the files. Raises DataError where the folder holds no known layout."""
        folder = Path(self.path)
        if is_planetoid(folder, self.name):
            return read_planetoid(folder, self.name)
        if is_ogb(folder) or self.name.startswith("ogb"):
            return read_nodes(set_folder(folder, self.name, "nodeproppred"))
        raise self._missing(folder)

    def _missing(self, folder: Path) -> DataError:
        """The error for a folder without the set: what it holds instead, and how to name a set."""
        if (folder / "dataset.json").is_file():
            return DataError(
                f"{folder} is a dataset for recommenders, which has no labelled nodes; expected a folder of Planetoid "
                "or OGB files. Attributes of its items are predicted by `recloom graph predict`."
            )
        there = sorted(path.name.split(".")[1] for path in folder.glob("ind.*.allx"))
        if there:
            absent = f"no set {self.name!r}, but " if self.name else ""
            return DataError(f"{folder} holds {absent}{', '.join(there)}. Say which with --data.name.")
        return DataError(
            f"{folder} holds no set: expected ind.{self.name or 'NAME'}.allx and its companions (Planetoid), or "
            "raw/edge.csv.gz and its companions (OGB). Say where with --data, and which set with --data.name."
        )

    def setup(self, stage: str | None = None) -> None:
        """Read the graph."""
        assert self.graph

    def protocol(self) -> dict[str, str | int | float]:
        graph = self.graph
        return {
            "data": self.name or Path(self.path).name,
            "data_hash": graph.digest(),
            "split": graph.split,
            **{f"{part}_nodes": len(graph.parts[part]) for part in PARTS},
            "nodes": len(graph.features),
            "edges": graph.edges.shape[1],
            "classes": graph.num_classes,
        }

    def train_dataloader(self) -> DataLoader[NodeGraph]:
        return self._whole()

    def val_dataloader(self) -> DataLoader[NodeGraph]:
        return self._whole()

    def test_dataloader(self) -> DataLoader[NodeGraph]:
        return self._whole()

    def _whole(self) -> DataLoader[NodeGraph]:
        """The whole graph as the only batch."""
        return DataLoader([self.graph], batch_size=None)  # type: ignore[arg-type]


class InMemoryNodeData(NodeData):
    """NodeData of a graph that is in memory already."""

    def __init__(self, graph: NodeGraph, name: str, seed: int = 0) -> None:
        super().__init__("memory", name, seed)
        self.given = graph

    def read(self) -> NodeGraph:
        return self.given


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
        return DataLoader(_PartBatches(self.graphs, rows), batch_size=None, sampler=sampler)  # type: ignore[arg-type]


class _PartBatches:
    """The graphs of one part, a batch at a time."""

    def __init__(self, graphs: GraphSet, rows: Tensor) -> None:
        self.graphs, self.rows = graphs, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Tensor) -> GraphBatch:
        return self.graphs[self.rows[places]]
