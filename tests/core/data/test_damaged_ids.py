"""Ids that were damaged before they came here, or differ where nobody sees it, are warned of."""

import pytest
from recloom.data.prepare.source import prepare_source


def notes(tmp_path, rows, records=None):
    (tmp_path / "log.csv").write_text(
        "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows)
    )
    options = {}
    if records:
        (tmp_path / "items.csv").write_text(
            "item_id,title\n" + "".join(f"{one},T {one}\n" for one in records)
        )
        options["items_path"] = [tmp_path / "items.csv"]
    raw, _, _ = prepare_source(str(tmp_path / "log.csv"), tmp_path / "out", options=options)
    return " | ".join(raw.notes)


def test_numbers_that_a_spreadsheet_shortened(tmp_path):
    said = notes(tmp_path, [("a", "1.23457E+12"), ("b", "1.23457E+12"), ("c", "17")])
    assert "2 of 3 rows have the item_id 1.23457E+12 or such, as spreadsheets shorten long numbers" in said


def test_names_that_begin_with_a_number_and_e_are_no_such_numbers(tmp_path):
    assert "spreadsheets" not in notes(tmp_path, [("a", "1E5"), ("b", "3.5e-2x"), ("c", "2e10")])


def test_numbers_with_an_exponent_are_noted(tmp_path):
    said = "have the item_id {} or such, a number with an exponent"
    assert "2 of 4 rows " + said.format("1e+05") in notes(
        tmp_path, [("a", "1e+05"), ("b", "2E+05"), ("c", "100000"), ("d", "x")]
    )
    again = tmp_path / "numbers"
    again.mkdir()
    assert "1 of 3 rows " + said.format("1e5") in notes(again, [("a", "1e5"), ("b", "17"), ("c", "3.5")])


def test_lists_are_noted_however_few_and_ids_in_brackets_are_none(tmp_path):
    rows = [("[deleted]", '"(a)"'), ("b", "{3F25-41}"), *(("c", f"i{n}") for n in range(9))]
    assert "list" not in notes(tmp_path, rows)
    again = tmp_path / "lists"
    again.mkdir()
    said = notes(again, [("a", "[1|2]"), *(("c", f"i{n}") for n in range(9))])
    assert "1 of 10 rows have a list as item_id, such as '[1|2]', which is taken for one id" in said


def test_ids_that_differ_by_composed_accents(tmp_path):
    said = notes(tmp_path, [("jose\u0301", "1"), ("jos\u00e9", "2"), ("ana", "3")])
    assert "2 of user_id, such as" in said
    assert "NFC, NFD" in said


def test_accents_alone_are_nothing_to_say(tmp_path):
    assert "NFC" not in notes(tmp_path, [("jos\u00e9", "1"), ("zo\u00eb", "2")])


@pytest.mark.parametrize(
    ("item", "record", "what"),
    [
        ("007", "7", "leading zeros"),
        ("Ab", "aB", "capitals"),
        ("e\u0301x", "\u00e9x", "how accents are composed"),
    ],
)
def test_records_that_would_match_otherwise(tmp_path, item, record, what):
    assert f"They differ in {what}" in notes(tmp_path, [("u", item), ("v", item)], [record])
