"""The policies of the fake model; each is a pure function of what is asked."""

from __future__ import annotations

import json
import math
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from recloom.errors import RecloomError
from recloom.llm.fake import Fake, data_of, lists, record_of
from recloom.spec import build

CHOICE = """Watched:
- Alien (1979)
- Aliens (1986)
Which one next?
A. Toy Story (1995)
B. Alien Resurrection (1997)
"""
RANK = "Watched:\n1. Alien (1979)\nRank these:\n1. Heat (1995)\n2. Alien 3 (1992)\n3. Casino (1995)\n"


def say(text, system="be brief"):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def answer(text, **options):
    schema = options.pop("schema", None)
    return Fake(**options).generate(say(text), schema=schema).texts[0]


def test_the_last_list_holds_the_candidates():
    assert lists(CHOICE) == [
        ["Alien (1979)", "Aliens (1986)"],
        ["Toy Story (1995)", "Alien Resurrection (1997)"],
    ]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ({"policy": "prompt_order"}, "A"),
        ({"policy": "reverse"}, "B"),
        ({"policy": "always_A"}, "A"),
        ({}, "B"),
    ],
)
def test_a_pair_is_answered_with_a_letter(policy, chosen):
    assert answer(CHOICE, **policy) == chosen


def test_always_a_says_a_whatever_stands_there():
    swapped = CHOICE.replace("A. Toy Story (1995)", "A. x").replace("B. Alien Resurrection (1997)", "B. y")
    assert {answer(text, policy="always_A") for text in (CHOICE, swapped)} == {"A"}


def test_the_oracle_goes_by_its_labels():
    labels = {"Toy Story (1995)": 2.0, "Alien Resurrection (1997)": 1.0}
    assert answer(CHOICE, policy="oracle", labels=labels) == "A"
    assert answer(CHOICE, policy="oracle", labels={"Alien Resurrection (1997)": 1.0}) == "B"


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("prompt_order", ["Heat (1995)", "Alien 3 (1992)", "Casino (1995)"]),
        ("reverse", ["Casino (1995)", "Alien 3 (1992)", "Heat (1995)"]),
        ("overlap", ["Alien 3 (1992)", "Heat (1995)", "Casino (1995)"]),
    ],
)
def test_a_list_is_answered_with_a_list(policy, order):
    wanted = "\n".join(f"{rank}. {title}" for rank, title in enumerate(order, 1))
    assert answer(RANK, policy=policy) == wanted


def test_all_or_none_of_the_titles_are_invented():
    assert "Invented" not in answer(RANK, policy="hallucinate", share=0.0)
    assert answer(RANK, policy="hallucinate", share=1.0).count("Invented") == 3


def test_garbage_is_no_json_and_differs_by_prompt():
    texts = {answer(text, policy="garbage") for text in (CHOICE, RANK)}
    assert len(texts) == 2
    for text in texts:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


class Profile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    summary: str = Field(max_length=120)
    genres: list[Literal["Horror", "Romance", "Western"]] = Field(min_length=1, max_length=3)
    mood: Literal["dark", "light"]
    keywords: list[str] = Field(max_length=4)
    sure: bool
    year: int = Field(ge=1900, le=2030)


FILM = "Describe it. <film>Horror on a dark ship, a dark horror of the western kind</film> Be quick."


def test_a_schema_is_obeyed_with_words_of_the_data():
    found = Profile.model_validate_json(answer(FILM, schema=Profile.model_json_schema()))
    assert found.genres == ["Horror", "Western"]
    assert found.mood == "dark"
    assert found.keywords == ["dark", "horror", "kind", "ship"]
    assert "describe" not in found.summary


def test_half_an_object_cannot_be_read():
    text = answer(FILM, policy="truncated_json", schema=Profile.model_json_schema())
    assert text.startswith("{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


class Citing(BaseModel):
    class Citation(BaseModel):
        attribute: str
        value: str

    cites: list[Citation] = Field(min_length=1)


RECORDS = "<history>\n- Alien: Covenant\n</history> and <item>\n- title: Heat: a film\n- year: 1995\n</item>"


def test_citations_come_from_the_last_record_and_may_be_invented():
    schema = Citing.model_json_schema()
    assert record_of(RECORDS) == {"title": "Heat: a film", "year": "1995"}
    (cite,) = json.loads(answer(RECORDS, schema=schema))["cites"]
    assert cite == {"attribute": "title", "value": "Heat: a film"}
    (cite,) = json.loads(answer(RECORDS, policy="hallucinate", share=1.0, schema=schema))["cites"]
    assert cite["attribute"] == "invention"
    (cite,) = json.loads(answer(RECORDS, policy="hallucinate", share=0.0, schema=schema))["cites"]
    assert cite["attribute"] == "title"
    assert record_of("no tags") == {}


def test_a_text_without_words_still_fills_a_list_of_words():
    (word,) = json.loads(answer("<d>1</d>", schema=Profile.model_json_schema()))["keywords"]
    assert len(word) == 6


def test_an_answer_that_is_too_long_is_cut_and_says_so():
    found = Fake().generate(say("<d>moon ship</d>"), max_tokens=1)
    assert (found.texts, found.cut) == (["moon,"], 1)
    assert Fake().generate(say("<d>moon ship</d>"), max_tokens=2).cut == 0


def test_free_text_is_a_bag_of_words():
    text = "<history>\n{}\n</history>"
    one, other = (
        answer(text.format("\n".join(rows)))
        for rows in (["moon ship", "dark moon"], ["dark moon", "moon ship"])
    )
    assert one == other == "moon, dark, ship"
    assert answer(text.format("moon ship")) != one


def test_a_sampled_text_holds_some_of_the_words_and_samples_differ():
    asked = say("<d>moon ship dark sea night storm</d>")
    whole = Fake().generate(asked, n=2).texts
    sampled = Fake().generate(asked, n=8, temperature=1.0).texts
    assert set(whole) == {"dark, moon, night, sea, ship, storm"}
    assert len(set(sampled)) > 4
    assert all(set(text.split(", ")) <= set(whole[0].split(", ")) for text in sampled)
    assert sampled == Fake().generate(asked, n=8, temperature=1.0).texts


def test_data_stands_between_tags():
    assert data_of("say <a>one</a> and <b>two</b>") == "one\ntwo"
    assert data_of("no tags") == "no tags"


def test_scores_follow_the_policy():
    first, second = Fake(policy="prompt_order").score(say(CHOICE), ["A", "B"])
    assert (first, second) == pytest.approx((math.log(0.5), math.log(0.25)))
    first, second = Fake().score(say(CHOICE), ["A", "B"])
    assert second > first
    (found,) = Fake().score_batch([say(CHOICE)], [["A", "B"]])
    assert (found.prompt_tokens, found.estimated) == (Fake().generate(say(CHOICE)).prompt_tokens, True)


def test_two_runs_are_the_same_and_seeds_differ():
    model = Fake(policy="garbage")
    assert model.generate(say(RANK)).texts == Fake(policy="garbage").generate(say(RANK)).texts
    assert model.generate(say(RANK), seed=1).texts != model.generate(say(RANK)).texts
    several = model.generate(say(RANK), n=3, temperature=1.0).texts
    assert len(set(several)) == 3
    assert len(set(model.generate(say(RANK), n=3).texts)) == 1


def test_an_unknown_policy_is_named():
    with pytest.raises(RecloomError, match=r"must be one of overlap, .* found 'best'"):
        Fake(policy="best")


def test_a_configuration_holds_it_by_name_and_by_path():
    named = {"class_path": "Fake", "init_args": {"policy": "reverse"}}
    path = {"class_path": "recloom.llm.fake.Fake", "init_args": {"policy": "reverse"}}
    assert (
        build("register_language_models", named) == build("register_language_models", path) == Fake("reverse")
    )
    with pytest.raises(RecloomError, match="refusing to build it"):
        build("register_language_models", {"class_path": "subprocess.Popen", "init_args": {"args": "true"}})
