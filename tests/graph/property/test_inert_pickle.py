import os
import pickle

import numpy as np
import pytest
from recloom.errors import DataError
from recloom_graph.property.inert_pickle import read_array, read_csr, read_neighbours

from .planetoid_files import array, csr, neighbours, whole


def saved(folder, body):
    path = folder / "ind.some.x"
    path.write_bytes(body)
    return path


@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64", "uint8"])
def test_an_array_is_read_with_its_shape_and_kind(tmp_path, kind):
    given = np.arange(6).reshape(2, 3).astype(kind)
    found = read_array(saved(tmp_path, whole(array(given))))
    assert found.dtype == given.dtype
    assert np.array_equal(found, given)


def test_a_matrix_is_read(tmp_path):
    given = np.array([[0, 2.5, 0], [0, 0, 0], [1, 0, -3]], np.float32)
    assert np.array_equal(read_csr(saved(tmp_path, whole(csr(given)))).toarray(), given)


def test_lists_of_neighbours_are_read(tmp_path):
    nodes, others = read_neighbours(saved(tmp_path, whole(neighbours({0: [1, 2], 3: [], 1: [0]}))))
    assert (nodes.tolist(), others.tolist()) == ([0, 0, 1], [1, 2, 0])


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(("call", "named"), [(os.system, "system"), (eval, "eval"), (os.mkdir, "mkdir")])
def test_nothing_of_a_hostile_file_runs(tmp_path, monkeypatch, protocol, call, named):
    monkeypatch.chdir(tmp_path)
    trap = {os.system: "touch ran", eval: "open('ran', 'w')", os.mkdir: "ran"}[call]
    raw = pickle.dumps(Hostile(call, trap), protocol)
    if call is os.mkdir and protocol == 2:
        pickle.loads(raw)  # the trap works where a file is unpickled
        (tmp_path / "ran").rmdir()
    path = saved(tmp_path, raw)
    with pytest.raises(
        DataError, match=rf"ind\.some\.x is refused: it asks for .*({named}|operation).*trust"
    ):
        read_array(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["numpy.core.multiarray\nfromfile", "builtins\ngetattr", "__builtin__\neval", "numpy\nload"]
)
def test_a_name_that_arrays_are_not_made_of_is_refused_wherever_it_stands(tmp_path, name):
    trap = b"c" + name.encode() + b"\nU\x01a\x85R0"
    with pytest.raises(DataError, match=name.partition("\n")[2]):
        read_array(saved(tmp_path, whole(trap + array(np.ones(2)))))


def test_objects_within_an_array_are_refused(tmp_path):
    body = whole(array(np.ones(2))).replace(b"f8", b"O8")
    with pytest.raises(DataError, match=r"holds no array of numbers \(elements of kind <O8\)"):
        read_array(saved(tmp_path, body))


def test_a_shape_that_the_values_do_not_fill_is_refused(tmp_path):
    body = array(np.ones((2, 3))).replace(b"\x03\x00\x00\x00", b"\xff\xff\xff\x7f", 1)
    with pytest.raises(DataError, match="6 values for the shape"):
        read_array(saved(tmp_path, whole(body)))


def test_indices_outside_of_the_matrix_are_refused(tmp_path):
    body = csr(np.eye(3, dtype=np.float32)).replace(
        np.arange(3, dtype=np.int32).tobytes(), np.array([0, 9, 2], np.int32).tobytes(), 1
    )
    with pytest.raises(DataError, match="holds no CSR matrix"):
        read_csr(saved(tmp_path, whole(body)))


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_damaged_file_is_named(tmp_path, cut):
    path = saved(tmp_path, whole(array(np.ones(9)))[:-cut])
    with pytest.raises(DataError, match=r"ind\.some\.x cannot be read as a pickle of arrays"):
        read_array(path)


def test_another_thing_than_was_asked_for_is_named(tmp_path):
    path = saved(tmp_path, whole(array(np.ones(9))))
    with pytest.raises(DataError, match="expected a mapping from nodes to lists of neighbours"):
        read_neighbours(path)
    with pytest.raises(DataError, match="there is no file"):
        read_array(tmp_path / "absent")
