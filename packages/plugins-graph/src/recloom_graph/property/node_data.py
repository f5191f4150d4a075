"""NodeData: graphs of published node classification sets, in the layouts of their publishers."""

from __future__ import annotations

from pathlib import Path

from recloom.errors import DataError
from recloom.training import TaskData
from torch.utils.data import DataLoader

from .node_graph import PARTS, NodeGraph
from .ogb import is_ogb, read_nodes, set_folder
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
        """From the files. Raises DataError where the folder holds no layout that is known."""
        folder = Path(self.path)
        if is_planetoid(folder, self.name):
            return read_planetoid(folder, self.name)
        if is_ogb(folder) or self.name.startswith("ogb"):
            return read_nodes(set_folder(folder, self.name, "nodeproppred"))
        raise self._not_there(folder)

    def _not_there(self, folder: Path) -> DataError:
        """What the folder holds instead, and how to say which set."""
        if (folder / "dataset.json").is_file():
            return DataError(
                f"{folder} is a dataset for recommenders, which has no labelled nodes; expected a folder of Planetoid "
                "or OGB files. Attributes of its items are told by `recloom graph predict`."
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


class GivenNodes(NodeData):
    """A graph that is in memory already."""

    def __init__(self, graph: NodeGraph, name: str, seed: int = 0) -> None:
        super().__init__("memory", name, seed)
        self.given = graph

    def read(self) -> NodeGraph:
        return self.given
