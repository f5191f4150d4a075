"""Text metrics: every formula against a count by hand or the library that papers use."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from dataclasses import replace

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.metrics.text import Reading, TextMetric, Texts
from recloom.plugins import collect
from recloom_feature.text_metrics import all_text_metrics
from recloom_feature.text_metrics.measure import measure

CAT, MAT = "the cat sat on the mat", "the cat is on the mat"
KNOWN = {metric.name: metric for metric in all_text_metrics()}


@pytest.fixture(scope="module", autouse=True)
def libraries():
    for name in ("sacrebleu", "rouge_score", "nltk"):
        pytest.importorskip(name, reason="the extra text is not installed")


def value(name, texts):
    return measure([name], KNOWN, texts)[name].value


def pair(text=CAT, reference=MAT, **reading):
    return Texts(text=[text], reference=[reference], reading=Reading(**reading))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("bleu@1", 5 / 6),
        ("bleu@2", 0.7071),
        ("bleu@3", (5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3)),
        ("bleu@4", 0.0),
        ("rouge@1", 0.8333),
        ("rouge@2", 0.6),
        ("rouge_l", 0.8333),
        ("meteor_exact", 0.8067),
    ],
)
@pytest.mark.fact("B13")
def test_overlap_metrics_of_the_cat_on_the_mat(name, wanted):
    assert value(name, pair()) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.fact("B13")
def test_perplexity_of_four_tokens():
    texts = Texts(
        text=["four tokens"],
        log_probs=[[math.log(p) for p in (1 / 2, 1 / 4, 1 / 8, 1 / 8)]],
        reading=Reading(log_probs_of="toy"),
    )
    found = measure(["perplexity"], KNOWN, texts)["perplexity"]
    assert found.value == pytest.approx(4.7568, abs=5e-5)
    assert (found.unit, found.of, found.n, found.method) == ("number", "tokens", 4, {"tokeniser": "toy"})


def test_perplexity_is_over_tokens_not_over_texts():
    log_probs = [[math.log(1 / 2)] * 3, [math.log(1 / 32)], []]
    found = measure(["perplexity"], KNOWN, Texts(text=["a", "b", ""], log_probs=log_probs))["perplexity"]
    assert found.value == pytest.approx(2 ** ((3 + 5) / 4))
    assert (found.n, found.undefined) == (4, 1)


def test_bleu_is_of_the_corpus_and_short_texts_are_punished():
    """Orders over both texts: 1-grams 4 of 4, 2-grams 2 of 2; c = 4, r = 6, so exp(1 - 6/4)."""
    texts = Texts(text=["a b", "c d"], reference=["a b x", "c d y"])
    assert value("bleu@2", texts) == pytest.approx(math.exp(-0.5))
    longer = Texts(text=["a b x", "q"], reference=["a b x", "c"])
    assert value("bleu@1", longer) == pytest.approx(3 / 4)  # the mean of the texts would be 1/2


def test_bleu_counts_no_word_more_often_than_its_reference():
    assert value("bleu@1", pair("the the the the the the", MAT)) == pytest.approx(2 / 6)


@pytest.mark.parametrize(("smoothing", "fourth"), [("floor", 0.1 / 3), ("add-k", 1 / 4), ("exp", 1 / 6)])
def test_smoothing_is_what_was_asked_for_and_written_down(smoothing, fourth):
    found = measure(["bleu@4"], KNOWN, pair(smoothing=smoothing))["bleu@4"]
    lower = {"add-k": (5 / 6) * (4 / 6) * (2 / 5)}.get(smoothing, (5 / 6) * (3 / 5) * (1 / 4))
    assert found.value == pytest.approx((lower * fourth) ** 0.25)
    assert found.method["smoothing"] == smoothing
    assert f"smooth:{smoothing}" in found.method["signature"]


def test_bleu_reports_its_tokeniser_and_obeys_the_case_option():
    shout = pair("The cat", "the cat")
    assert value("bleu@1", shout) == pytest.approx(0.5)
    assert value("bleu@1", replace(shout, reading=Reading(lowercase=True))) == pytest.approx(1)
    chinese = pair("好电影", "好看的电影", bleu_tokenizer="zh")
    assert value("bleu@1", chinese) == pytest.approx(math.exp(1 - 5 / 3))
    assert "tok:zh" in measure(["bleu@1"], KNOWN, chinese)["bleu@1"].method["signature"]


def test_rouge_equals_the_library_with_its_own_tokeniser():
    from rouge_score.rouge_scorer import RougeScorer

    rng = random.Random(0)
    vocabulary = ["the", "Cat's", "sat", "on", "a", "mat,", "2019", "x-ray", "is"]
    made = [" ".join(rng.choices(vocabulary, k=length)) for length in (1, 3, 5, 8, 13, 21) for _ in range(8)]
    theirs = RougeScorer(["rouge1", "rouge2", "rouge3", "rougeL"])
    names = {"rouge@1": "rouge1", "rouge@2": "rouge2", "rouge@3": "rouge3", "rouge_l": "rougeL"}
    for text, reference in itertools.pairwise(made):
        wanted = theirs.score(reference, text)
        for ours, name in names.items():
            assert value(ours, pair(text, reference)) == pytest.approx(wanted[name].fmeasure)


def test_texts_without_a_reference_are_left_out_and_empty_ones_are_zero():
    texts = Texts(text=[CAT, CAT, ""], reference=[MAT, "", MAT])
    found = measure(["bleu@1", "rouge@1", "rouge_l", "meteor_exact"], KNOWN, texts)
    assert {name: (each.n, each.undefined) for name, each in found.items()} == dict.fromkeys(found, (2, 1))
    assert found["rouge@1"].value == pytest.approx((5 / 6 + 0) / 2)
    assert found["meteor_exact"].value == pytest.approx(0.80667 / 2, abs=5e-6)
    assert found["bleu@1"].value == pytest.approx(5 / 6 * math.exp(1 - 12 / 6))
    punctuation = measure(["rouge_l", "meteor_exact"], KNOWN, pair("a", "..."))
    assert {each.undefined for each in punctuation.values()} == {1}


def test_scripts_without_spaces_are_counted_by_character():
    texts = pair("好电影", "好看的电影")
    assert value("rouge@1", texts) == 0
    assert value("rouge@1", replace(texts, reading=Reading(words="characters"))) == pytest.approx(6 / 8)


@pytest.mark.parametrize(
    ("text", "reference", "wanted"),
    [
        ("a b c d", "a b c d", 1 - 0.5 / 64),  # all match, one chunk
        ("a", "a", 0.5),
        ("x", "a", 0.0),
        ("b a", "a b", 0.5),  # two chunks of two matches
        ("a x", "a", 10 * 0.5 / (1 + 4.5) / 2),
        ("a", "a x", 10 * 0.5 / (0.5 + 9) / 2),  # recall weighs nine times as much
    ],
)
def test_meteor_by_hand(text, reference, wanted):
    assert value("meteor_exact", pair(text, reference)) == pytest.approx(wanted)


def test_meteor_of_23_words_has_nine_matches_in_eight_chunks():
    """A pair on which a beam search of 40 alignments, which drops the best one, ends with nine chunks."""
    text = "film with the the life are story of of the it of good light a was this war story the story of war"
    reference = (
        "life film the boy from horse was and love the story film film street life love old a "
        "with of man queen film"
    )
    precision = recall = 9 / 23
    mean = 10 * precision * recall / (recall + 9 * precision)
    assert value("meteor_exact", pair(text, reference)) == pytest.approx(mean * (1 - 0.5 * (8 / 9) ** 3))
    assert value("meteor_exact", pair(text, reference)) == pytest.approx(0.25389, abs=5e-6)


def fewest_chunks(text, reference):
    """The score of the best of all alignments of equal words, tried one by one."""
    places = [[None, *(at for at, other in enumerate(reference) if other == word)] for word in text]
    best = (0, 0)
    for chosen in itertools.product(*places):
        taken = [at for at in chosen if at is not None]
        if len(set(taken)) < len(taken):
            continue
        neighbours = sum(
            b is not None and a is not None and b == a + 1 for a, b in itertools.pairwise(chosen)
        )
        best = min(best, (-len(taken), len(taken) - neighbours))
    matches, chunks = -best[0], best[1]
    if not matches:
        return 0.0
    precision, recall = matches / len(text), matches / len(reference)
    return 10 * precision * recall / (recall + 9 * precision) * (1 - 0.5 * (chunks / matches) ** 3)


def test_meteor_is_that_of_the_fewest_chunks_where_no_word_comes_twice_and_never_more():
    rng = random.Random(1)
    for _ in range(100):
        text, reference = (rng.sample("abcdef", rng.randint(1, 6)) for _ in range(2))
        found = value("meteor_exact", pair(" ".join(text), " ".join(reference)))
        assert found == pytest.approx(fewest_chunks(text, reference))
    for _ in range(100):
        text, reference = (rng.choices("aabc", k=rng.randint(1, 6)) for _ in range(2))
        found = value("meteor_exact", pair(" ".join(text), " ".join(reference)))
        assert found <= fewest_chunks(text, reference) + 1e-12


def test_stems_match_after_equal_words():
    texts = pair("movies loved", "movie love")
    assert value("meteor_exact", texts) == 0
    assert value("meteor_stem", texts) == pytest.approx(1 - 0.5 / 8)
    # the equal word takes "runs" first, so that "run" stays unmatched: P = R = 1/2, one chunk
    assert value("meteor_stem", pair("run runs", "runs x")) == pytest.approx(0.25)
    found = measure(["meteor_exact", "meteor_stem"], KNOWN, texts)
    assert [each.method["stages"] for each in found.values()] == ["exact", "exact, stem"]
    assert found["meteor_stem"].method["library"] == "nltk"


def test_synonyms_need_wordnet_and_its_absence_names_the_step(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(
        RecloomError, match=r"WordNet files.*nltk\.downloader wordnet.*meteor_stem and meteor_ex"
    ):
        value("meteor_synonym", pair())


def wordnet(folder):
    """A WordNet of two synsets in the files of its database: film with cinema and movie, good with fine."""
    folder.mkdir(parents=True)
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"data.{part}", f"index.{part}", f"{part}.exc"):
            (folder / name).write_text("")
    for name in ("cntlist.rev", "index.sense"):
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tadj.all\t3\n01\tnoun.artifact\t1\n")
    for part, letter, place, words in [
        ("noun", "n", "01", ("film", "cinema", "movie")),
        ("adj", "a", "00", ("good", "fine")),
    ]:
        listed = " ".join(f"{word} 0" for word in words)
        (folder / f"data.{part}").write_text(
            f"00000000 {place} {letter} {len(words):02x} {listed} 000 | a gloss  \n"
        )
        (folder / f"index.{part}").write_text(
            "".join(f"{word} {letter} 1 0 1 0 00000000  \n" for word in sorted(words))
        )


def test_synonyms_match_after_equal_words_and_stems(tmp_path, monkeypatch):
    import nltk
    from nltk.corpus import util
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    wordnet(tmp_path / "corpora" / "wordnet")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    lazy = util.LazyCorpusLoader("wordnet", WordNetCorpusReader, None)
    monkeypatch.setattr("nltk.corpus.wordnet", lazy)
    texts = pair("a fine film", "a good cinema")
    assert value("meteor_stem", texts) == pytest.approx(1 / 3 * 0.5)
    found = measure(["meteor_synonym"], KNOWN, texts)["meteor_synonym"]
    assert found.value == pytest.approx(1 - 0.5 / 27)
    assert found.method["stages"] == "exact, stem, synonym"
    # an equal word goes before a synonym, even where the synonym would keep the chunk together
    assert value("meteor_synonym", pair("cinema film", "film x")) == pytest.approx(0.25)
    # as in nltk, the third stage looks up stems: "movie" is "movi" there, which WordNet does not list
    assert value("meteor_synonym", pair("film", "movie")) == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("bleu@2", "sacrebleu.metrics.bleu"),
        ("rouge_l", "rouge_score.rouge_scorer"),
        ("meteor_exact", "nltk.translate.meteor_score"),
        ("meteor_stem", "nltk.stem.porter"),
    ],
)
def test_a_missing_library_names_the_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecloomError, match=r"pip install 'recloom-feature\[text\]'"):
        value(name, pair())


def test_distinct_ngrams_are_counted_over_all_texts():
    texts = Texts(text=["a b a", "A b c", ""])  # a b, b a, a b, b c
    assert value("distinct@1", texts) == 3 / 6
    assert value("distinct@2", texts) == 3 / 4
    assert value("distinct@4", texts) is None


def test_unique_texts_are_of_the_same_words():
    assert value("unique_texts", Texts(text=["Good film.", "good film", "film good", "", ""])) == 3 / 5


FEATURES = Texts(
    text=["Great sound and battery life", "the sound, the screen", "Soundtrack only", "battery life and sound"],
    feature=["battery life", "price", "", "Sound"],
)  # fmt: skip


def test_feature_matching_is_by_whole_words():
    """FMR: text 1 names battery life, text 2 not its price, text 3 has none to name, text 4 sound: 2 of 3."""
    found = measure(["feature_matching"], KNOWN, FEATURES)["feature_matching"]
    assert (found.value, found.n, found.undefined) == (pytest.approx(2 / 3), 3, 1)


def test_feature_coverage_and_diversity():
    """F = {battery life, price, sound}; sets {b, s}, {s}, {}, {b, s}; pairs share 1, 0, 2, 0, 1, 0: 4 / 6."""
    assert value("feature_coverage", FEATURES) == pytest.approx(2 / 3)
    assert value("feature_diversity", FEATURES) == pytest.approx(4 / 6)
    whole = replace(FEATURES, features=frozenset({"sound", "screen", "price", "colour"}))
    assert value("feature_coverage", whole) == 2 / 4
    assert value("feature_diversity", whole) == pytest.approx(3 / 6)  # sets {s}, {s, screen}, {}, {s}
    assert value("feature_diversity", Texts(text=["sound"], feature=["sound"])) is None


FILMS = Catalog(
    pl.DataFrame(
        {
            "item_id": ["1", "2", "3", "4"],
            "title": ["Heat (1995)", "Alien (1979)", "Heat (1986)", None],
            "genres": ["Crime|Drama", "Horror|Sci-Fi", "Drama", None],
            "year": [1995, 1979, 1986, None],
            "stars": [["Al Pacino", "Robert De Niro"], ["Sigourney Weaver"], [], None],
        }
    )
)


def test_cited_attributes_stand_in_the_record_of_the_item():
    texts = Texts(
        text=["a", "b", "c", "d", "e"],
        item=["1", "2", "1", "4", "3"],
        cited=[
            ["Drama", "al pacino", "1995", "Heat", "genres: Crime"],  # all true
            ["horror", "Drama"],  # the second is of another film
            [],
            ["Drama"],  # a record without values
            ["stars: Drama", "dram", "Heat (1995)"],  # another column, a part of a value, another film
        ],
        catalog=FILMS,
    )
    found = measure(["faithfulness", "faithful_texts"], KNOWN, texts)
    assert (found["faithfulness"].value, found["faithfulness"].n) == (pytest.approx(6 / 11), 11)
    assert (found["faithfulness"].of, found["faithfulness"].undefined) == ("attributes", 1)
    assert (found["faithful_texts"].value, found["faithful_texts"].n) == (1 / 4, 4)
    assert found["faithful_texts"].method == {"record": "title, genres, year, stars"}


def test_a_named_item_must_exist_and_be_the_recommended_one():
    texts = Texts(
        text=["a", "b", "c", "d", "e", "f"],
        item=["1", "1", "1", "1", "2", "2"],
        named=[["heat"], ["Heat (1986)"], ["Aliens"], [], ["2", "ALIEN!"], ["Alien", "Heat"]],
        catalog=FILMS,
    )
    found = measure(["hallucination", "unknown_items"], KNOWN, texts)
    assert (found["hallucination"].value, found["hallucination"].n) == (
        3 / 5,
        5,
    )  # the second, third and last
    assert (found["unknown_items"].value, found["unknown_items"].n) == (pytest.approx(1 / 7), 7)  # "Aliens"
    assert found["unknown_items"].undefined == 1


def test_all_are_registered_and_none_shadows_a_metric_of_rankings():
    registered = collect("register_metrics")
    assert {name: each for name, each in registered.items() if isinstance(each, TextMetric)} == KNOWN
    assert len(KNOWN) == 16


def test_the_command_measures_a_file(tmp_path, write_dataset, capsys):
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["1", "2"], "timestamp": [1, 2]})
    items = pl.DataFrame(
        {"item_id": ["1", "2"], "title": ["Heat", "Alien"], "genres": ["Crime|Drama", "Horror"]}
    )
    data = write_dataset(tmp_path / "data", frame, items)
    file = tmp_path / "reasons.jsonl"
    records = [
        {
            "text": 'You may like "Heat", a drama',
            "item": 1,
            "cited": ["drama"],
            "human": "a drama you may like",
        },
        {
            "text": 'Watch "Aliens" for its romance',
            "item": 2,
            "cited": ["romance"],
            "human": "horror at its best",
        },
    ]
    file.write_text("".join(json.dumps(each) + "\n" for each in records))
    main(["text-metrics", str(file), "--metrics", "faithfulness,faithful_texts,hallucination,unknown_items,rouge_l",
          "--data", str(data), "--items", "item", "--cited", "cited", "--quoted", "--reference", "human",
          "--percent", "--out", str(tmp_path / "found.json")])  # fmt: skip
    said = capsys.readouterr().out
    assert "faithfulness    50.00  0.00 to 100.00  2 attributes" in " ".join(said.split("\n"))
    found = json.loads((tmp_path / "found.json").read_text())
    shares = {name: each["value"] for name, each in found["metrics"].items()}
    assert shares.pop("rouge_l") == pytest.approx(
        (6 / 11 + 2 / 9) / 2
    )  # "you may like" of 6 and 5; "its" of 5 and 4
    assert set(shares.values()) == {0.5}
    assert found["versions"]["rouge-score"] == "0.1.2"
