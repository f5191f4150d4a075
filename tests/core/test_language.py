import subprocess
import sys
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from recloom.errors import RecloomError
from recloom.llm import Generation, LanguageModel, TextEncoder, core_language_models
from recloom.llm.texts.hashing import HashingNgrams
from recloom.spec import build, describe

TITLES = [
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Heat (1995)",
    "红楼梦",
    "西游记",
    "🎉🎈 party",
    "Ｈｅａｔ",
]


def test_vectors_have_the_promised_form():
    encoder = HashingNgrams(dim=64)
    vectors = encoder.encode(TITLES)
    assert vectors.shape == (7, 64)
    assert vectors.dtype == np.float32
    assert encoder.normalized
    assert encoder.max_tokens is None
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(7), abs=1e-6)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "?!...", "()"])
def test_a_text_without_words_is_zero(text):
    assert not HashingNgrams().encode([text]).any()


def test_no_text_gives_no_row():
    assert HashingNgrams(dim=8).encode([]).shape == (0, 8)


def test_another_process_gives_the_same_bytes():
    code = (
        "from recloom.llm.texts.hashing import HashingNgrams; import sys;"
        "sys.stdout.buffer.write(HashingNgrams(dim=32).encode(['Toy Story', '红楼梦 🎉']).tobytes())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": s}
        )
        for s in ("1", "2")
    ]
    here = HashingNgrams(dim=32).encode(["Toy Story", "红楼梦 🎉"]).tobytes()
    assert runs[0].stdout == runs[1].stdout == here


@given(st.lists(st.text(max_size=30), max_size=8))
def test_a_vector_depends_on_its_own_text_alone(texts):
    encoder = HashingNgrams(dim=128, shortest=2)
    together = encoder.encode(texts)
    alone = [encoder.encode([text])[0] for text in texts]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_long_catalogues_are_encoded_in_chunks(monkeypatch):
    whole = HashingNgrams(dim=32).encode(TITLES * 3)
    monkeypatch.setattr("recloom.llm.texts.hashing.CHUNK", 20)
    assert np.array_equal(HashingNgrams(dim=32).encode(TITLES * 3), whole)


def test_texts_that_share_words_are_near():
    vectors = HashingNgrams().encode([*TITLES, "Story of Toys", "红楼", "PARTY"])
    near = vectors @ vectors.T
    assert near[0, 1] > 0.6
    assert near[0, 1] > near[0, 2]
    assert near[0, 7] > 0.2  # parts of words count
    assert near[3, 8] > 0.1
    assert abs(near[3, 4]) < 0.1
    assert near[5, 9] > 0.5
    assert near[2, 6] > 0.5  # full width is folded


def reference(text: str) -> dict[str, float]:
    """The weights that the hashing stands for, by feature, for a text of lower-case words."""
    words = [f" {word} " for word in text.split()]
    grams = [f"{word}#word" for word in words]
    grams += [w[at : at + n] for w in words for n in (3, 4, 5) for at in range(len(w) - n + 1)]
    counts = {gram: grams.count(gram) for gram in grams}
    weights = {gram: 1 + np.log(count) for gram, count in counts.items()}
    length = np.sqrt(sum(weight**2 for weight in weights.values()))
    return {gram: weight / length for gram, weight in weights.items()}


@pytest.mark.parametrize(
    ("one", "other"),
    [("toy story toy", "toy story"), ("ab", "ab abc"), ("the thin red line", "a red thing"), ("x", "y")],
)
def test_cosines_equal_those_of_the_unhashed_counts(one, other):
    first, second = reference(one), reference(other)
    wanted = sum(weight * second.get(gram, 0) for gram, weight in first.items())
    a, b = HashingNgrams(dim=1 << 20).encode([one, other])
    assert float(a @ b) == pytest.approx(wanted, abs=1e-5)


def test_signs_cancel_collisions_on_average():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 8)) for _ in range(400)]
    vectors = HashingNgrams(dim=64).encode(words)
    near = (vectors @ vectors.T)[np.triu_indices(400, 1)]
    assert abs(near.mean()) < 0.01


def test_ten_thousand_titles_take_seconds():
    texts = [f"The {n} Adventures of Number {n * 7919 % 10007} ({1900 + n % 120})" for n in range(10_000)]
    begin = process_time()
    HashingNgrams().encode(texts)
    assert process_time() - begin < 5  # measured: 1 s on one core


@pytest.mark.parametrize("options", [{"dim": 0}, {"shortest": 1}, {"shortest": 4, "longest": 3}])
def test_impossible_options_are_refused(options):
    with pytest.raises(
        RecloomError, match=r"HashingNgrams needs dim >= 1 and 2 <= shortest <= longest; found"
    ):
        HashingNgrams(**options)


def test_an_encoder_is_plain_data_and_back():
    spec = describe(HashingNgrams)
    assert spec["class_path"] == "HashingNgrams"
    made = build("register_language_models", {"class_path": "HashingNgrams", "init_args": {"dim": 16}})
    assert made == HashingNgrams(dim=16)


def test_the_command_line_builds_an_encoder_by_name():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--encoder", type=TextEncoder | None)
    given = parser.parse_args(["--encoder", "HashingNgrams", "--encoder.dim", "16"])
    assert parser.instantiate(given).encoder == HashingNgrams(dim=16)


def test_core_registers_its_encoder():
    assert HashingNgrams in core_language_models()


class Echo(LanguageModel):
    def generate(self, messages, *, n=1, temperature=0.0, max_tokens=256, seed=0):
        return Generation([messages[-1]["content"]] * n, 1, n)


def test_a_language_model_that_cannot_score_refuses():
    message = {"role": "user", "content": "yes?"}
    assert Echo().generate([message], n=2).texts == ["yes?", "yes?"]
    with pytest.raises(RecloomError, match=r"Echo cannot score answers.*log-probabilities"):
        Echo().score([message], ["yes", "no"])


def test_what_is_not_defined_is_named():
    with pytest.raises(NotImplementedError, match="TextEncoder must define encode"):
        TextEncoder().encode(["a"])
    with pytest.raises(NotImplementedError, match="LanguageModel must define generate"):
        LanguageModel().generate([])
