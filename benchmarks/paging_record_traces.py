"""Record the two traces that the paging paper bundles (Linux, with strace, and the King James text).

    paperworks data get king-james
    python benchmarks/paging_record_traces.py FOLDER_OF_THE_TEXT OUT

words.txt.gz     the words of the New Testament in their order, in lower case, one per line
database.txt.gz  the 4 KiB pages that SQLite reads from its file while it answers a concordance's queries: for every
                 word of the Gospel of Mark its number, how often it occurs, and the text of one verse with it
"""

from __future__ import annotations

import argparse
import gzip
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from paperworks.inputs.corpora import read_corpus

NEW_TESTAMENT = "Mat1"
WORKLOAD = r"Mark\d+"
PAGE_BYTES = 4096


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def build(database: Path, chapters: list) -> None:
    """A concordance of the whole text: verses, words, and which word occurs where."""
    with sqlite3.connect(database) as db:
        db.execute(f"pragma page_size = {PAGE_BYTES}")
        db.executescript(
            "create table verse (id integer primary key, chapter text, text text);"
            "create table word (id integer primary key, word text unique);"
            "create table occurrence (word integer, verse integer, place integer);"
        )
        numbers: dict[str, int] = {}
        verse = 0
        for chapter in chapters:
            for line in chapter.text.splitlines():
                verse += 1
                db.execute("insert into verse values (?, ?, ?)", (verse, chapter.key, line))
                for place, word in enumerate(words_of(line)):
                    number = numbers.setdefault(word, len(numbers) + 1)
                    db.execute("insert into occurrence values (?, ?, ?)", (number, verse, place))
        db.executemany("insert into word values (?, ?)", [(n, w) for w, n in numbers.items()])
        db.execute("create index occurrence_word on occurrence (word, verse)")
    db.close()


def query(database: Path, chapters: list) -> None:
    """The workload. A cache of one page makes SQLite ask its file for every page that it touches."""
    db = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    db.execute("pragma cache_size = 1")
    count = 0
    for chapter in chapters:
        for word in words_of(chapter.text):
            count += 1
            (number,) = db.execute("select id from word where word = ?", (word,)).fetchone()
            row = db.execute(
                "select verse from occurrence where word = ? order by verse limit 1 offset ?", (number, count % 7)
            ).fetchone()
            if row:
                db.execute("select text from verse where id = ?", row).fetchone()
    db.close()


def main() -> None:
    """Record both traces into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder of the King James text")
    parser.add_argument("out", type=Path, help="folder for the traces, or with --query the database")
    parser.add_argument("--query", action="store_true", help="only run the workload (what strace watches)")
    options = parser.parse_args()
    chapters = read_corpus("king-james", options.text)
    workload = [c for c in chapters if re.fullmatch(WORKLOAD, c.key)]
    if options.query:
        query(options.out, workload)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    keys = [c.key for c in chapters]
    words = [w for c in chapters[keys.index(NEW_TESTAMENT) :] for w in words_of(c.text)]
    write(options.out / "words.txt.gz", words)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "concordance.sqlite"
        build(database, chapters)
        log = Path(folder) / "reads"
        command = [sys.executable, __file__, str(options.text), str(database), "--query"]
        subprocess.run(["strace", "-y", "-e", "trace=pread64", "-o", str(log), *command], check=True)
        read = re.compile(rf"pread64\(\d+<[^>]*concordance\.sqlite>, .*, {PAGE_BYTES}, (\d+)\) = {PAGE_BYTES}$")
        with log.open(errors="replace") as lines:
            pages = [int(m[1]) // PAGE_BYTES for line in lines if (m := read.match(line.rstrip()))]
    write(options.out / "database.txt.gz", pages)


def write(path: Path, ids: list) -> None:
    """One id per line; the same ids give the same bytes."""
    path.write_bytes(gzip.compress("".join(f"{i}\n" for i in ids).encode(), mtime=0))
    print(f"{path}: {len(ids)} requests, {len(set(ids))} pages, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
