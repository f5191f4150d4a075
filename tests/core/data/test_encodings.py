"""Texts that are not UTF-8 are decoded by their marks or a sound guess that is shown, or refused; never damaged."""

import pytest
from recloom.cli.main import main
from recloom.data.prepare.source import recognise
from recloom.data.readers.encodings import guess
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.errors import DataError

LOG = "user_id,item_id,value,timestamp\nu1,a,4,1500000000\nu2,b,oops,1500000060\nu3,a,5,1500000120\n"


def read(tmp_path, data, name="log.csv", **options):
    (tmp_path / name).write_bytes(data)
    return Table(**options).read(tmp_path / name)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("cp1252", "id;name\n1;Crème brûlée\n2;Señor “Ñandú”\n3;Größe\n"),
        ("cp1251", "id;name\n1;Вишнёвый сад\n2;Отцы и дети\n"),
        ("koi8-r", "id;name\n1;Вишнёвый сад\n2;Отцы и дети\n"),
        ("gb18030", "id;name\n1;霸王别姬\n2;卧虎藏龙\n3;让子弹飞\n"),
        ("shift_jis", "id;name\n1;かぐや姫の物語\n2;ソナチネ\n"),
        ("euc_jp", "id;name\n1;かぐや姫の物語\n2;ソナチネ\n"),
        ("euc-kr", "id;name\n1;올드보이\n2;괴물\n3;살인의 추억\n4;기생충\n"),
    ],
)
def test_a_language_in_its_usual_encoding_is_recognised(codec, text):
    found = guess([text.encode(codec)])
    assert found.name == codec
    assert found.example in text.replace("\n", ";")
    assert not found.example.isascii()


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("cp1250", "Žižkov, Kůň, ťuhýk, Łódź, źrebię"),
        ("cp1254", "Şıklık, ağaç, İzmir, kırmızı"),
        ("cp1253", "Ζορμπάς, Καπετάν Μιχάλης"),
        ("cp850", "Crème brûlée, Größe"),
        ("mac_roman", "Crème brûlée, Größe"),
        ("big5", "臥虎藏龍,霸王別姬"),
    ],
)
def test_in_doubt_there_is_no_guess(codec, text):
    assert guess([text.encode(codec)]).name is None


def test_western_titles_are_decoded_and_the_guess_is_shown(tmp_path):
    items = tmp_path / "dishes.csv"
    items.write_bytes("item_id,title\na,Crème brûlée\nb,Rösti\n".encode("cp1252"))
    raw = read(tmp_path, LOG.encode(), items_path=[items])
    assert raw.items["title"].to_list() == ["Crème brûlée", "Rösti"]
    (note,) = [note for note in raw.notes if "UTF-8" in note]
    assert note.startswith("dishes.csv: not UTF-8; read as cp1252, such as 'Crème' (a guess; --encoding")


def test_ids_that_only_the_end_of_a_long_file_shows_not_to_be_utf_8(tmp_path):
    rows = "".join(f"u{n},a,4,1500000000\n" for n in range(5000))
    raw = read(tmp_path, (LOG + rows + "café,naïf,2,1500000000\n,a,1,1500000000\n").encode("cp1252"))
    assert raw.interactions.row(-1)[1:3] == ("café", "naïf")
    assert raw.rejected["line"].to_list() == [3, 5006]
    assert any("read as cp1252" in note for note in raw.notes)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_lines_are_those_of_the_file_in_utf_16_and_after_marks(tmp_path, codec):
    raw = read(tmp_path, ("sep=;\r\n" + LOG.replace(",", ";").replace("\n", "\r\n")).encode(codec))
    assert raw.interactions["user_id"].to_list() == ["u1", "u3"]
    reason = "value is empty or not a number"
    assert raw.rejected.rows() == [("log.csv", 4, reason, "u2;b;oops;1500000060")]
    assert "log.csv: line 1 is Excel's sep= line, which names the separator" in raw.notes


def test_lines_of_an_old_mac(tmp_path):
    raw = read(tmp_path, LOG.replace("\n", "\r").encode())
    assert raw.interactions["line"].to_list() == [2, 4]
    assert raw.rejected["line"].to_list() == [3]


def test_in_doubt_a_file_is_refused_until_its_encoding_is_named(tmp_path):
    data = LOG.replace("u3", "Łódź").encode("cp1250")
    with pytest.raises(DataError, match=r"log.csv, line 4: the bytes a3 are not UTF-8 .*--encoding cp1252"):
        read(tmp_path, data)
    raw = read(tmp_path, data, encoding="cp1250")
    assert raw.interactions["user_id"].to_list() == ["u1", "Łódź"]
    assert recognise(tmp_path / "log.csv", {"encoding": "cp1250"}) is Table
    with pytest.raises(DataError, match=r"log.csv, line 4: the bytes .* are not valid shift_jis"):
        read(tmp_path, data, encoding="shift_jis")
    with pytest.raises(DataError, match="no encoding is called 'klingon'"):
        read(tmp_path, data, encoding="klingon")
    raw = read(tmp_path, data, encoding="utf-8")
    assert raw.rejected.select("line", "reason").rows()[-1] == (4, "user_id is not valid UTF-8")
    with pytest.raises(DataError, match="holds NUL bytes"):
        read(tmp_path, b"\0\1\2\3 a,b\n\0\0")


def test_rows_of_a_side_file_that_are_no_utf_8_are_left_out_and_said(tmp_path):
    items = tmp_path / "goods.csv"
    items.write_bytes("item_id,title\na,Crème\nc,Rösti\nd,Käse\n".encode() + b"b,Sop\xe9\n")
    raw = read(tmp_path, LOG.encode(), items_path=[items])
    assert raw.items["item_id"].to_list() == ["a", "c", "d"]
    assert raw.rejected_items.select("line", "reason").rows() == [(5, "title is not valid UTF-8")]
    assert "goods.csv: rows with bytes that are not UTF-8 are left out, the first is line 5 (e9)" in raw.notes


def test_what_is_utf_8_and_read_as_something_else_is_said(tmp_path):
    raw = read(tmp_path, LOG.replace("u3", "é").encode(), encoding="cp1252")
    assert "log.csv: its bytes are valid UTF-8 too; read as cp1252, as --encoding says" in raw.notes


def test_json_and_sequences_are_decoded_too(tmp_path):
    raw = read(tmp_path, '{"user": "é", "item": "naïf"}\n'.encode("cp1252"), "log.jsonl")
    assert raw.interactions.row(0) == (1, "é", "naïf")
    assert any("read as cp1252" in note for note in raw.notes)
    (tmp_path / "lines.txt").write_bytes("café1 x1\ncafé1 x2\n".encode("cp1252"))
    raw = Sequences().read(tmp_path / "lines.txt")
    assert raw.interactions["user_id"].to_list() == ["café1", "café1"]
    assert any("read as cp1252" in note for note in raw.notes)


def test_the_option_is_one_of_the_command_line(tmp_path, capsys):
    (tmp_path / "log.csv").write_bytes(LOG.replace("oops", "3").replace("u3", "Łódź").encode("cp1250"))
    words = ["data", "prepare", "auto", "--path", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")]
    main([*words, "--encoding", "cp1250"])
    assert "read as table" in capsys.readouterr().out
