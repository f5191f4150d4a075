import os
import pickle
from time import process_time

import numpy as np
import pytest
from recloom.errors import DataError
from recloom_graph.property.planetoid_pickle import read_array, read_csr, read_neighbours

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


SHARED = (
    b"K\x01\x85q\x01" + b"h\x01h\x01\x86q\x01" * 40
)  # 2 ** 40 values where a tuple may stand in two places
LONG_LIST = b"](" + b"K\x01" * 2000 + b"eq\x01"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"}(" + b"K\x01" + b"\x85" * 200_000 + b"K\x01u", "a tuple within a tuple; expected whole numbers"),
        (b"}(K\x01\x85K\x01u", "a key that is neither a whole number nor a text"),
        (b"}(" + SHARED + b"K\x01u", "a tuple in two places; expected each in one"),
        (b"}(K\x00" + LONG_LIST + b"K\x02h\x01u", "a list in two places"),
        (b"]q\x01](h\x01e", "a list in two places"),
        (b"](](K\x01ee", "a list of other things than whole numbers"),
        (b"]U\x01aa", "a list of other things than whole numbers"),
        (b"}(K\x01" + array(np.ones(1)) + b"q\x01K\x02h\x01u", "a note in two places"),
    ],
    ids=["deep", "key", "doubled", "long", "itself", "nested", "text", "array"],
)
def test_a_file_that_makes_more_of_its_bytes_is_refused(tmp_path, body, message):
    with pytest.raises(DataError, match=rf"cannot be read as a pickle of arrays \({message}.*Fetch the file"):
        read_neighbours(saved(tmp_path, whole(body)))


def test_marks_cost_no_more_than_their_bytes(tmp_path):
    path = saved(tmp_path, whole(b"N" * 100_000 + b"(t" * 60_000))
    begun = process_time()
    with pytest.raises(DataError, match="too many values"):
        read_neighbours(path)
    assert process_time() - begun < 5  # half a minute where every mark looks at all values


def test_notes_within_notes_are_let_go(tmp_path):
    path = saved(tmp_path, whole(b"cnumpy\ndtype\n)R" * 100_000 + b"b" * 99_999))
    with pytest.raises(DataError, match=r"no _reconstruct where one should be"):
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
    with pytest.raises(
        DataError, match=r"shape that is not one or two whole|a tuple within a tuple; expected whole"
    ):
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
