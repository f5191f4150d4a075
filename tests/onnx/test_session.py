"""What a session refuses, and how it reads requests."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from recloom.errors import RecloomError
from recloom_onnx.artifact import session as sessions
from recloom_onnx.artifact.ids import aligned, id_array, padded
from recloom_onnx.artifact.manifest import read_manifest
from recloom_onnx.artifact.session import Session

from .conftest import HISTORIES


def test_a_verified_artefact_loads_and_recommends(verified):
    lists = Session(verified.path).recommend([["7"], ["item 1", "item 2"], []], k=4)
    assert [len(places) for places in lists] == [4, 4, 4]
    assert all(a.score >= b.score for places in lists for a, b in pairwise(places))


def test_a_session_needs_no_torch(verified):
    code = (
        "import sys\n"
        "from recloom_onnx.artifact.session import Session\n"
        "assert len(Session(sys.argv[1]).recommend([['7']], k=3)[0]) == 3\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxscript', 'polars', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(verified.path)], check=True)


def test_an_artefact_that_was_never_compared_is_refused(artefact):
    with pytest.raises(RecloomError, match=r"never compared.*recloom verify"):
        Session(artefact("positions").path)


def test_a_changed_file_is_refused(verified, tmp_path):
    made = verified.copy(tmp_path)
    raw = bytearray(made.path.read_bytes())
    raw[len(raw) // 2] ^= 1
    made.path.write_bytes(raw)
    with pytest.raises(RecloomError, match=r"model.onnx is not the file that was exported: expected sha256"):
        Session(made.path)


def test_a_missing_file_is_named(verified, tmp_path):
    made = verified.copy(tmp_path)
    made.path.unlink()
    with pytest.raises(RecloomError, match=r"model.onnx is missing"):
        Session(made.path)


def test_a_file_without_manifest_is_refused(verified, tmp_path):
    made = verified.copy(tmp_path)
    made.path.with_suffix(".json").unlink()
    with pytest.raises(RecloomError, match="has no manifest"):
        Session(made.path)


def test_a_broken_manifest_names_the_key(verified, tmp_path):
    made = verified.copy(tmp_path)
    target = made.path.with_suffix(".json")
    target.write_text(json.dumps(json.loads(target.read_text()) | {"num_items": "many"}))
    with pytest.raises(
        RecloomError, match=r"model.json is not a manifest of format recloom-onnx-1: num_items"
    ):
        Session(made.path)


def test_a_failed_comparison_is_refused_with_its_reason(verified, tmp_path):
    made = verified.copy(tmp_path)
    manifest = read_manifest(made.path)
    parity = manifest.parity.model_copy(update={"verified": False, "failures": ["place 1 of request 2"]})
    manifest.model_copy(update={"parity": parity}).write(made.path)
    with pytest.raises(RecloomError, match=r"failed its comparison.*place 1 of request 2"):
        Session(made.path)


def test_a_report_without_any_reason_is_no_comparison(verified, tmp_path):
    made = verified.copy(tmp_path)
    manifest = read_manifest(made.path)
    parity = manifest.parity.model_copy(update={"verified": False, "failures": []})
    manifest.model_copy(update={"parity": parity}).write(made.path)
    with pytest.raises(
        RecloomError, match=r"not verified and not served\. Run `recloom verify .*model\.onnx --run"
    ):
        Session(made.path)


def test_cuda_where_there_is_none_names_the_wheel(verified):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of onnxruntime has CUDA")
    with pytest.raises(RecloomError, match=r"needs onnxruntime-gpu; found onnxruntime .*recloom-onnx\[gpu\]"):
        Session(verified.path, provider="cuda")


def test_a_silent_fall_back_to_the_cpu_is_an_error(verified, monkeypatch):
    real = onnxruntime.InferenceSession

    class Runtime:
        SessionOptions = onnxruntime.SessionOptions

        @staticmethod
        def get_available_providers():
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        @staticmethod
        def InferenceSession(path, options, providers):
            assert providers[0] == "CUDAExecutionProvider"
            return real(
                path, options, providers=["CPUExecutionProvider"]
            )  # as onnxruntime does without a GPU

    monkeypatch.setattr(sessions, "_runtime", lambda provider: Runtime)
    with pytest.raises(RecloomError, match=r"fell back to CPUExecutionProvider.*CUDA or cuDNN libraries"):
        Session(verified.path, provider="cuda")


def test_two_wheels_are_named(verified, monkeypatch):
    monkeypatch.setattr(sessions, "version", lambda name: "1.31")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RecloomError, match="pip uninstall onnxruntime onnxruntime-gpu, then pip install"):
        Session(verified.path, provider="cuda")


def test_no_wheel_at_all_names_the_extra(verified, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecloomError, match=r"onnxruntime, which is not installed: .*recloom-onnx\[cpu\]"):
        Session(verified.path)


def test_an_unknown_provider_is_an_error(verified):
    with pytest.raises(RecloomError, match="provider is one of cpu, cuda, found 'tpu'"):
        Session(verified.path, provider="tpu")


def test_requests_that_make_no_sense_are_errors(verified, artefact):
    session = verified.session()
    with pytest.raises(
        RecloomError, match="k is the length of the lists, a whole number of 1 or more; found 0"
    ):
        session.recommend([["7"]], k=0)
    with pytest.raises(RecloomError, match=r"not valid text: '\\ud800x'"):
        session.recommend([["7", "\ud800x"]])
    with pytest.raises(RecloomError, match="expected a list of ids for each request, found '7'"):
        session.recommend(["7"])
    with pytest.raises(RecloomError, match="blocked has 1 rows and history has 2"):
        session.recommend([["7"], ["7"]], exclude=[[]])
    with pytest.raises(RecloomError, match="Times reads history_time; give it"):
        artefact("times").session().recommend([["7"]])
    with pytest.raises(RecloomError, match=r"history_time has shape \[1, 1\], history \[1, 2\]"):
        artefact("times").session().recommend([["7", "8"]], history_times=[[1]], request_times=[2])


def test_a_k_beyond_all_measure_costs_nothing(verified):
    assert len(verified.session().recommend([["7"]], k=10**15)[0]) == 59


def test_no_requests_give_no_lists(verified):
    assert verified.session().recommend([]) == []


def test_what_the_model_does_not_read_may_be_given(verified):
    session = verified.session()
    assert session.recommend([["7"]], users=["u1"], request_times=[5]) == session.recommend([["7"]])


def test_ids_that_are_numbers_are_read_as_the_catalogue_reads_them(verified):
    session = verified.session()
    assert session.recommend([[7]]) == session.recommend([["7"]])


def test_pad_aligns_right():
    rows = [["a"], [], ["b", "c", "d"]]
    assert padded(rows, "string").tolist() == [["", "", "a"], ["", "", ""], ["b", "c", "d"]]
    assert aligned([[5], [6, 7]], np.array([5, 6, 7]), 0).tolist() == [[0, 5], [6, 7]]
    assert padded([(), ()], "string").shape == (2, 0)


def test_ids_that_are_integers():
    found = id_array(
        ["7", 7, "", -1, "-1", "07", "7.0", "x", str(2**63), str(2**63 - 1), " 7", None], "integer"
    )
    assert found.tolist() == [7, 7, -1, -1, -2, -2, -2, -2, -2, 2**63 - 1, -2, -2]
    assert padded([["7"], ["0", "x"]], "integer").tolist() == [[-1, 7], [0, -2]]


def test_a_list_of_allowed_items_that_names_none_allows_none(verified):
    session = verified.session()
    assert session.recommend([["7"]] * 4, k=60, allow=[[], [""], ["", "unknown"], ["item 1"]])[:3] == [
        [],
        [],
        [],
    ]
    (lists,) = session.recommend([["7"]], k=3, allow=[None])
    assert len(lists) == 3


def test_a_manifest_of_another_file_is_refused(verified, tmp_path):
    made = verified.copy(tmp_path)
    made.path.rename(tmp_path / "prod.onnx")
    made.path.with_suffix(".json").rename(tmp_path / "prod.json")
    with pytest.raises(
        RecloomError, match=r"prod\.json describes model\.onnx, not prod\.onnx; keep the names"
    ):
        Session(tmp_path / "prod.onnx")


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "", "..", "a\\b"])
def test_a_manifest_names_files_beside_it_only(verified, tmp_path, name):
    made = verified.copy(tmp_path)
    manifest = made.path.with_suffix(".json")
    found = json.loads(manifest.read_text())
    found["files"][name] = "0" * 64
    manifest.write_text(json.dumps(found))
    with pytest.raises(RecloomError, match=r"is not a manifest of format recloom-onnx-1: files"):
        Session(made.path)


def test_inputs_are_completed_once_in_the_order_of_the_graph(artefact):
    session = artefact("users").session()
    given = {"ignored": np.zeros(2), "history": np.array([["7"], ["07"]], object)}
    inputs = session.prepare(given)
    assert list(inputs) == ["history", "blocked", "allowed", "user"]
    assert inputs["history"] is given["history"]
    assert inputs["blocked"].shape == inputs["allowed"].shape == (2, 0)
    assert inputs["user"].tolist() == ["", ""]
    for prepared, direct in zip(session.run_prepared(inputs, 3), session.run(given, 3), strict=True):
        assert prepared.tolist() == direct.tolist()
    with pytest.raises(RecloomError, match="k is the length of the lists"):
        session.run_prepared(inputs, 0)


def test_requests_that_take_much_memory_are_computed_a_few_at_a_time(verified, monkeypatch):
    session = Session(verified.path, threads=1)
    whole = session.recommend(HISTORIES, 4)
    sizes, run = [], session._session.run
    session._session = SimpleNamespace(
        run=lambda names, given: sizes.append(len(given["history"])) or run(names, given)
    )
    session.manifest = session.manifest.model_copy(update={"rows": 3})
    assert session.recommend(HISTORIES, 4) == whole
    assert sizes == [3, 3, 1]
