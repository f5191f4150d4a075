"""Planetoid's pickle files: what they hold is read, and nothing that they name runs or costs more than their bytes."""

import os
import pickle
from collections import defaultdict
from time import process_time

import numpy as np
import pytest
from recloom.errors import DataError
from recloom_graph.property.planetoid_pickle import read_array, read_csr, read_neighbours
from scipy.sparse import csr_matrix

from .planetoid_files import array, csr, neighbours, number, text, whole


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


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_python_3_writes_is_read_too(tmp_path, protocol):
    array_ = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(read_array(saved(tmp_path, pickle.dumps(array_, protocol))), array_)
    matrix = csr_matrix(array_)
    assert np.array_equal(read_csr(saved(tmp_path, pickle.dumps(matrix, protocol))).toarray(), array_)
    graph = defaultdict(list, {0: [1, 2], 1: [0]})
    nodes, others = read_neighbours(saved(tmp_path, pickle.dumps(graph, protocol)))
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
        DataError, match=rf"ind\.some\.x is refused: it asks for '\w+\.{named}', and only arrays.*trust"
    ):
        read_array(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["numpy.core.multiarray\nfromfile", "builtins\ngetattr", "__builtin__\neval", "numpy\nload"]
)
def test_a_name_outside_of_the_allow_list_is_refused_anywhere_in_a_file(tmp_path, name):
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


@pytest.mark.parametrize(
    "body",
    [
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nU\x02os\x85RU\x06systemtR(U\x09touch rantR",
        b"cnumpy\nndarray\n(" + number(2**31 - 1) + b"t\x85R",  # 16 GB where it is called
        b"cnumpy\nndarray\n(K\x01t\x81",
        b"c__builtin__\nlist\n](K\x01K\x02e\x85R",
        b"cnumpy\ndtype\n(NU\x0c__defaults__K\x01sdt\x85b",
        b"ccollections\ndefaultdict\n)R}(U\x01aK\x01ub",
        b"\x82\x01",  # an extension by its code
        b"PI123\n",  # an object of somebody else's
        b"c_codecs\nencode\n(U\x02aaU\x05utf-8tR",
    ],
    ids=["chain", "ndarray", "new", "list", "class", "state", "extension", "persistent", "encode"],
)
def test_calls_states_and_foreign_objects_are_refused(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    for read in (read_array, read_csr, read_neighbours):
        with pytest.raises(DataError, match=r"ind\.some\.x (is refused|cannot be read|holds no)"):
            read(saved(tmp_path, whole(body)))
    assert [path.name for path in tmp_path.iterdir()] == ["ind.some.x"]


SHARED = (
    b"K\x01\x85q\x01" + b"h\x01h\x01\x86q\x01" * 40
)  # 2 ** 40 values where a tuple may stand in two places
LONG_LIST = b"](" + b"K\x01" * 2000 + b"eq\x01"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"}(" + b"K\x01" + b"\x85" * 200_000 + b"K\x01u", "more than 100 tuples"),
        (b"}(" + SHARED + b"K\x01u", "a list, tuple or dict in two places"),
        (b"}(" + b"K\x01\x85" + b"2\x86" * 40 + b"K\x01u", "a list, tuple or dict in two places"),
        (b"}(" + b"K\x01\x85K\x020q\x01" + b"h\x01\x86" + b"K\x01u", "a list, tuple or dict in two places"),
        (b"}(K\x00" + LONG_LIST + b"K\x02h\x01u", "a list, tuple or dict in two places"),
        (b"]q\x01](h\x01e", "a list, tuple or dict in two places"),
        (b"K\x01r\xff\xff\xff\x7f", "place 2,147,483,647 of the memo in a file of"),
        (b"\x8e" + (2**40).to_bytes(8, "little") + b"x", "expected 1099511627776 bytes"),
        (b"N" * 100_000 + b"(t" * 60_000, "more than 100 tuples"),
    ],
    ids=["deep", "doubled", "duplicated", "popped", "long", "itself", "memo", "bytes", "marks"],
)
def test_a_file_that_costs_more_than_its_bytes_is_refused(tmp_path, body, message):
    path = saved(tmp_path, whole(body))
    begun = process_time()
    with pytest.raises(DataError, match=rf"cannot be read as a pickle of arrays \({message}.*Fetch the file"):
        read_neighbours(path)
    assert process_time() - begun < 5


@pytest.mark.parametrize(
    "entry",
    [b"K\x01\x85]", b"K\x01](](K\x01ee", b"K\x01]U\x01aa", b"K\x01" + array(np.ones(1))],
    ids=["key", "nested", "text", "array"],
)
def test_a_mapping_holds_lists_of_whole_numbers_alone(tmp_path, entry):
    body = neighbours({}).removesuffix(b"u") + entry + b"u"
    with pytest.raises(
        DataError, match="a node that is no number, or whose neighbours are no list of numbers"
    ):
        read_neighbours(saved(tmp_path, whole(body)))


def test_states_within_states_are_let_go(tmp_path):
    path = saved(tmp_path, whole(b"cnumpy\ndtype\n)R" * 100_000 + b"b" * 99_999))
    with pytest.raises(DataError, match=r"no array where one should be"):
        read_array(path)


@pytest.mark.parametrize(
    "shape",
    [
        b"(K\x02U\x01at",
        b"(K\x02](K\x01K\x01et",
        b"(" + number(-2) + number(-3) + b"t",
        b"(K\x06K\x01K\x01t",
        b"K\x06",
    ],
)
def test_a_shape_is_one_or_two_whole_numbers(tmp_path, shape):
    given = array(np.ones((2, 3)))
    body = given.replace(b"(" + number(2) + number(3) + b"t", shape)
    assert body != given
    with pytest.raises(DataError, match=r"shape that is not one or two whole"):
        read_array(saved(tmp_path, whole(body)))
    given = csr(np.eye(2, 3, dtype=np.float32))
    body = given.replace(b"(" + number(2) + number(3) + b"t", shape)
    assert body != given
    with pytest.raises(DataError, match=r"holds no CSR matrix \(a shape that is not one or two whole"):
        read_csr(saved(tmp_path, whole(body)))


@pytest.mark.parametrize("change", [(b"U\x01<", b"K\x07"), (text(b"f8"), b"K\x08")])
def test_a_kind_of_elements_is_a_text(tmp_path, change):
    body = array(np.ones(2))
    assert change[0] in body
    with pytest.raises(DataError, match="elements of no kind"):
        read_array(saved(tmp_path, whole(body.replace(*change))))


@pytest.mark.parametrize("entry", [b"U\x011](K\x01e", b"K\x01U\x0211", b"K\x01N"])
def test_neighbours_are_lists_of_numbered_nodes(tmp_path, entry):
    body = neighbours({}).removesuffix(b"u") + entry + b"u"
    with pytest.raises(DataError, match="a node that is no number, or whose neighbours are no list"):
        read_neighbours(saved(tmp_path, whole(body)))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as a pickle of arrays .*directory"):
        read_array(tmp_path)
