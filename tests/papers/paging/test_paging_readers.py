"""Trace formats: what is read, and what is said about what cannot be read."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pyarrow
import pytest

from paperworks.errors import InputError
from paperworks.papers.paging import Columns, Trace, belady, read_trace, sample_trace, write_oracle_general
from paperworks.papers.paging.optimum import next_requests
from paperworks.papers.paging.readers import ORACLE_GENERAL


def pages_of(trace):
    return trace.ids[trace.pages].tolist()


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_text(write):
    trace = read_trace(write("a.txt", "b, c\nd\r\nb, c\nnone\n"))
    assert pages_of(trace) == ["b, c", "d", "b, c", "none"]
    assert trace.pages.tolist() == [0, 1, 0, 2]
    numbers = read_trace(write("n.txt", "12\n-3\n12\n0\n"))
    assert numbers.ids.dtype == np.int64
    assert pages_of(numbers) == [12, -3, 12, 0]
    # Hashes of 64 bits, with and without a sign, are numbers; what does not fit is text.
    for values in ([2**64 - 1, 5, 2**63, 5], [-(2**63) + 1, 2**63 - 1], [1844674407370955161, 10**19]):
        assert pages_of(read_trace(write("n.txt", "\n".join(map(str, values))))) == values
    for texts in (["18446744073709551616", "5"], ["-1", "18446744073709551615"], ["99999999999999999999"]):
        assert pages_of(read_trace(write("n.txt", "\n".join(texts)))) == texts
    # 007 is another id than 7: numbers that would not come back as they were written stay text.
    assert pages_of(read_trace(write("z.txt", "007\n7\n"))) == ["007", "7"]


@pytest.mark.parametrize("packed", ["gz", "bz2", "xz", "zst"])
def test_packed_files(write, packed):
    text = b"1\n2\n1\n" * 500
    if packed == "zst":
        data = pyarrow.compress(text, codec="zstd", asbytes=True)
    else:
        data = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[packed](text)
    assert pages_of(read_trace(write(f"a.txt.{packed}", data))) == [1, 2, 1] * 500
    with pytest.raises(InputError, match=r"a\.txt"):
        read_trace(write(f"a.txt.{packed}", b"\x01" + data[1 : len(data) // 2]))


def test_parts_of_a_file(write):
    path = write("a.txt", "".join(f"{i}\n" for i in range(100)))
    assert pages_of(read_trace(path, skip=10, limit=3)) == [10, 11, 12]
    assert len(read_trace(path, limit=1000)) == 100
    with pytest.raises(InputError, match="no requests left"):
        read_trace(path, skip=100)
    with pytest.raises(InputError, match="limit: found 0"):
        read_trace(path, limit=0)


def test_csv(write):
    path = write("a.csv", 'time,"id",size,op\n1,a,3,get\n2,b,4,SET\n3,a,3,delete\n4,c,1,get\n')
    trace = read_trace(path)
    assert pages_of(trace) == ["a", "b", "c"]
    assert any("1 deletes" in n for n in trace.notes)
    assert any("sizes" in n for n in trace.notes)
    with pytest.raises(InputError, match="ignore_size"):
        read_trace(path, ignore_size=False)
    assert pages_of(read_trace(path, columns=Columns("time"))) == [1, 2, 3, 4]
    with pytest.raises(InputError, match="did you mean 'time'"):
        read_trace(path, columns=Columns("tim"))


@pytest.mark.parametrize("delimiter", list("\t,|:;"))
def test_delimiters_are_found(write, delimiter):
    text = "\n".join(delimiter.join(row) for row in (("5", "x"), ("6", "y"), ("5", "x")))
    assert pages_of(read_trace(write("a.csv", text), columns=Columns(1))) == ["x", "y", "x"]


def test_bad_lines_are_named(write):
    for name, text, found in (
        ("a.csv", "time,id\n1,a\n2\n3,c\n", "line 3"),
        ("b.csv", "time,id\n1,a\n2,\n3,c\n", "line 3"),
        ("c.txt", "1\n2\n\n3\n", "line 3"),
        ("d.txt", "1\n2\nNaN\n3\n", "line 3"),
    ):
        with pytest.raises(InputError, match=found):
            read_trace(write(name, text))
    with pytest.raises(InputError, match="line 5"):
        read_trace(write("e.txt", "1\n2\n3\n4\n\n"), skip=2)


@pytest.mark.parametrize(
    ("name", "text", "ids", "words"),
    [
        ("a.tr", "0 1 10\n1 2 10\n2 1 10\n3 2 10\n4 1 10\n5 3 10\n", [1, 2, 1, 2, 1, 3], "column 2 of 3 as page id"),
        ("b.txt", "0\t1\t5\n1\t2\t9\n2\t1\t5\n", [1, 2, 1], "separated by tabs: column 2 of 3"),
        ("c.txt", "9,10,1\n8,11,2\n9,10,3\n", [9, 8, 9], "commas: column 1 of 3 as page id, column 3 as time"),
        ("d.txt", "0;a;1,5\n1;b;2,5\n2;a;1,5\n", ["a", "b", "a"], "semicolons: column 2 of 3"),
        ("e.txt", "  0    7 1\n 10    8 1\n100    7 1", [7, 8, 7], "blanks: column 2 of 3"),
        ("f.txt", "# time id size\n0 5 1\n1 6 1\n2 5 1\n", [5, 6, 5], "column 2 ('id') of 3"),
        ("g.csv", "exported by me\n\ntime,page\n1,a\n2,b\n3,a\n", ["a", "b", "a"], "2 lines above the table left out"),
        ("h.txt", "obj_id size\nx 1\ny 2\nx 1\n", ["x", "y", "x"], "column 1 ('obj_id') of 2"),
        (
            "i",
            "0 REST.PUT.OBJECT f1 7\n3 REST.GET.OBJECT f1 7 0 6\n9 REST.HEAD.OBJECT f2\n",
            ["f1", "f1", "f2"],
            "column 3 as page id, column 1 as time, column 2 as operation",
        ),
        ("j.csv", "1,x,3\n2,y,3\n3,x,3\n", ["x", "y", "x"], "column 2 of 3"),
        (
            "k",
            "5,hm,1,Read,0,512,3\n6,hm,1,Write,4096,512,3\n7,hm,1,Read,0,512,3\n",
            ["hm.1.0", "hm.1.1", "hm.1.0"],
            "Block I/O",
        ),
        ("l", "0,ka,4,10,1,get,0\n0,kb,4,10,1,set,0\n1,ka,4,10,1,get,0\n", ["ka", "kb", "ka"], "column 2 of 7"),
        ("m.txt", "New York\nLos Angeles\nNew York\n", ["New York", "Los Angeles", "New York"], ""),
    ],
)
def test_structured_text_is_understood_and_said(write, name, text, ids, words):
    """A table is not taken for whole lines, whatever separates its fields; lines of words stay whole."""
    trace = read_trace(write(name, text))
    assert pages_of(trace) == ids
    assert words in trace.understood
    assert bool(words) == bool(trace.understood)


def test_structured_example_has_three_misses(write):
    trace = read_trace(write("t", "0 1 10\n1 2 10\n2 1 10\n3 2 10\n4 1 10\n5 3 10\n"))
    assert belady(trace, 2).misses == 3
    assert belady(read_trace(write("t", "0 1 10\n1 2 10\n2 1 10\n"), "text"), 2).misses == 3  # whole lines on demand
    assert pages_of(read_trace(write("t", "0 1 10\n1 2 11\n"), columns=Columns(2))) == [10, 11]


def test_faulty_lines_of_structured_text_are_named(write):
    rows = [f"{i} {i % 3} 10" for i in range(20)]
    for bad in ("7 1", "7 1 10 5", ""):
        with pytest.raises(InputError, match=r"line 8: \d fields? in"):
            read_trace(write("t", "\n".join([*rows[:7], bad, *rows[8:]])))
    with pytest.raises(InputError, match="id_column"):
        read_trace(write("t", "\n".join(rows)), columns=Columns(5))


def test_deletes_as_codes(write):
    """libCacheSim numbers its operations; 9 is a delete."""
    trace = read_trace(write("t.csv", "time,id,op\n1,a,1\n2,b,9\n3,a,3\n"))
    assert pages_of(trace) == ["a", "a"]
    assert any("1 deletes" in note for note in trace.notes)


def test_binary_files_are_refused_with_words(write, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(5))
    for data, words in (
        ((tmp_path / "x.npy").read_bytes(), "numpy array"),
        (b"PAR1" + bytes(60), "Parquet"),
        (gzip.compress(b"1\n2\n"), "gzip"),
        (bytes(range(24)) * 5, r"binary data.*oracle-general"),
    ):
        for name in ("t.txt", "t.csv", "t"):
            with pytest.raises(InputError, match=words) as caught:
                read_trace(write(name, data))
            assert "\\x" not in str(caught.value)
            assert str(caught.value).isprintable()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_numbers_and_texts_are_numbered_as_pandas_does(write, end):
    """The compiled scanners against an independent reader, over block borders and growing tables."""
    rng = np.random.default_rng(1)
    ids = rng.integers(-(10**12), 10**12, 3000)[rng.integers(0, 3000, 9000)]
    for values in (ids.tolist(), [f"k{i}" for i in ids.tolist()]):
        lines = [f"{t},{v} ,{abs(hash(v)) % 7}" for t, v in enumerate(values)]
        for text in (end.join(map(str, values)), end.join(lines) + end):
            trace = read_trace(write("t.txt", text))
            assert pages_of(trace) == values
            codes, _ = pd.factorize(np.array(values))
            assert np.array_equal(trace.pages, codes)


def test_msr(write):
    path = write(
        "m.csv",
        "128166372003061629,hm,1,Read,8192,12288,500\n"
        "128166372003061630,hm,1,Write,0,512,50\n"
        "128166372003061631,hm,0,Read,4095,2,50\n"
        "128166372003061632,hm,1,Read,12287,1,50\n",
    )
    everything = pages_of(read_trace(path, "msr"))
    assert everything == ["hm.1.2", "hm.1.3", "hm.1.4", "hm.1.0", "hm.0.0", "hm.0.1", "hm.1.2"]
    assert pages_of(read_trace(path, "msr", operations="write")) == ["hm.1.0"]
    assert len(read_trace(path, "msr", page_bytes=512, operations="read")) == 24 + 2 + 1
    for bad, found in (("1,hm,1,Wrote,0,512,5\n", "type 'wrote'"), ("1,hm,1,Read,0x,512,5\n", "offset '0x'")):
        with pytest.raises(InputError, match=rf"line 2.*{found}"):
            read_trace(write("bad.csv", "1,hm,1,Read,0,512,5\n" + bad), "msr")
    with pytest.raises(InputError, match=r"line 1.*offset -5"):
        read_trace(write("bad.csv", "1,hm,1,Read,-5,512,5\n"), "msr")


def test_twitter_wikimedia_parrot(write):
    twitter = read_trace(write("t", "0,ka,4,10,1,get,0\n0,kb,4,10,1,set,0\n1,ka,4,0,1,delete,0\n"), "twitter")
    assert pages_of(twitter) == ["ka", "kb"]
    for text in ("9\t10\t1\n8\t10\t2\n9\t10\t3\n", "id\tsize\ttime\n9\t10\t1\n8\t10\t2\n9\t10\t3\n"):
        assert pages_of(read_trace(write("w", text), "wikimedia")) == [9, 8, 9]
    parrot = write("p", "0x400,0x1000\n404,1008\n40,0x2040\n")
    assert pages_of(read_trace(parrot, "parrot")) == [64, 64, 129]
    assert pages_of(read_trace(parrot, "parrot", line_bytes=4096)) == [1, 1, 2]
    with pytest.raises(InputError, match=r"line 2.*'10g8'"):
        read_trace(write("p", "0x400,0x1000\n404,10g8\n"), "parrot")


def test_oracle_general(tmp_path):
    trace = Trace.of(np.array([2**40, 7, 2**40, 9, 7]))
    path = tmp_path / "x.oracleGeneral"
    write_oracle_general(trace, path)
    assert path.stat().st_size == 5 * ORACLE_GENERAL.itemsize == 5 * 24
    stored = np.fromfile(path, ORACLE_GENERAL)
    assert stored["next"].tolist() == [2, 4, -1, -1, -1]
    back = read_trace(path)
    assert pages_of(back) == [2**40, 7, 2**40, 9, 7]
    assert next_requests(back).tolist() == [2, 4, 5, 5, 5]
    with pytest.raises(InputError, match="exists"):
        write_oracle_general(trace, path)

    packed = tmp_path / "x.oracleGeneral.zst"
    packed.write_bytes(pyarrow.compress(path.read_bytes(), codec="zstd", asbytes=True))
    assert np.array_equal(read_trace(packed).pages, trace.pages)
    assert pages_of(read_trace(packed, skip=1, limit=2)) == [7, 2**40]

    cut = tmp_path / "cut.oracleGeneral"
    cut.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="record 4, at byte 96, is cut off"):
        read_trace(cut)

    sized = np.fromfile(path, ORACLE_GENERAL)
    sized["size"] = 100
    sized.tofile(tmp_path / "sized.oracleGeneral")
    assert "ignored" in read_trace(tmp_path / "sized.oracleGeneral").notes[0]
    with pytest.raises(InputError, match="ignore_size"):
        read_trace(tmp_path / "sized.oracleGeneral", ignore_size=False)


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.array([5, 6, 5], np.uint16))
    assert pages_of(read_trace(tmp_path / "a.npy")) == [5, 6, 5]
    np.save(tmp_path / "b.npy", np.array([5, np.nan]))
    with pytest.raises(InputError, match="nan at request 1"):
        read_trace(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="numpy array"):
        read_trace(tmp_path / "c.npy")


def test_what_is_not_a_trace(tmp_path, write):
    with pytest.raises(InputError, match="not a file"):
        read_trace(tmp_path / "nothing")
    with pytest.raises(InputError, match="empty"):
        read_trace(write("a.txt", ""))
    with pytest.raises(InputError, match="did you mean 'twitter'"):
        read_trace(write("a.txt", "1\n"), "twiter")


def test_samples():
    database, words = sample_trace("database"), sample_trace("words")
    assert (len(database), database.distinct) == (120_958, 1_551)
    assert (len(words), words.distinct) == (180_391, 6_032)
    assert words.ids[words.pages[:6]].tolist() == ["the", "book", "of", "the", "generation", "of"]
    part = words.part(100, 200)
    assert part.ids[part.pages].tolist() == words.ids[words.pages[100:200]].tolist()
    assert part.pages[0] == 0
    assert belady(part, 10).misses <= 100
    with pytest.raises(InputError, match="did you mean 'words'"):
        sample_trace("word")


def test_colons_inside_fields_separate_nothing(write):
    """Addresses and times of day have colons; the fields of these lines are separated by blanks."""
    urls = read_trace(write("u.txt", "0 http://a.b/1 10\n1 http://a.b/2 10\n2 http://a.b/1 10\n3 http://a.b/2 10\n"))
    assert pages_of(urls) == ["http://a.b/1", "http://a.b/2", "http://a.b/1", "http://a.b/2"]
    clock = read_trace(write("c.txt", "10:00:01 7 512\n10:00:02 9 512\n10:00:03 7 512\n10:00:04 9 4096\n"))
    assert pages_of(clock) == [7, 9, 7, 9]
    # Without blanks inside the fields a colon separates, as before.
    assert pages_of(read_trace(write("k.csv", "1: 17\n2: 18\n3: 17\n"), columns=Columns(1))) == [17, 18, 17]


def test_times_with_decimal_commas_under_names_that_are_not_known(write):
    """The first column rises and is no page id, whatever it is called and however its decimals are written."""
    text = "zeit;wert;menge\n" + "".join(f"{t},25;{100 + t % 3};{10 + t % 2}\n" for t in range(12))
    trace = read_trace(write("d.csv", text))
    assert pages_of(trace) == [100 + t % 3 for t in range(12)]
    assert "column 1 ('zeit') as time" in trace.understood
