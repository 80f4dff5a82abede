"""The folder: deleting, erasing, verifying, kill -9, edits by hand, bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
from safetensors.numpy import load_file, save_file

from paperworks.errors import InputError
from paperworks.papers.s3t import S3T, Folder, UnknownRecordError, verify_folder
from paperworks.papers.s3t.assignment import assign
from paperworks.papers.s3t.formats import seal
from paperworks.papers.s3t.receipts import JournalHead, canonical
from paperworks.papers.s3t.records import write_index

from .conftest import SETTINGS, fit, make_system, network, records


def in_slice(folder: Folder, shard: int, slice_: int) -> list[str]:
    manifest = folder.read()
    return [str(i) for i in range(48) if manifest.records[manifest.key(str(i))] == (shard, slice_)]


def test_a_deletion_cuts_every_sequence_in_front_of_the_slice_and_erases(copied: Path) -> None:
    folder = Folder(copied)
    before = folder.read()
    record, same_slice = in_slice(folder, 0, 1)[:2]
    receipt = folder.delete([record])
    after = folder.read()
    for sequence in after.sequences[0]:
        assert sequence.depth == sequence.order.index(1)
        place = copied / "shards/0-0" / "-".join(map(str, sequence.order))
        assert place.exists() == (sequence.depth > 0)
        if sequence.depth:
            names = set(load_file(place / "adapter_model.safetensors"))
            live = {n for stage in range(1, sequence.depth + 1) for n in after.system.stage_tensors(stage)}
            assert {n for n in names if "lora" in n} == live
            assert len(list(place.glob("stage-*"))) == sequence.depth
    assert after.sequences[1] == before.sequences[1]
    assert after.slice_digests[0][1] is None
    assert {(c.before, c.after) for c in receipt.cuts} == {(3, 0), (3, 1), (3, 2)}
    assert all(not (copied / path).exists() or "adapter" in path for path in receipt.erased)
    found = verify_folder(folder, [record, same_slice, in_slice(folder, 0, 0)[0]])
    assert found.ok
    assert list(found.records.values()) == ["deleted", "not served", "served"]
    assert found.receipts == {record: 1}
    assert not any(p.name.endswith((".pt", ".partial")) for p in copied.rglob("*"))  # no optimiser, no leftovers


def test_repeated_and_unknown_ids(copied: Path) -> None:
    folder = Folder(copied)
    record = in_slice(folder, 1, 0)[0]
    folder.delete([record, record])
    assert folder.read().requests == 1
    again = folder.delete([record])
    assert again.records == ()
    assert len(again.repeated) == 1
    assert again.cuts == ()
    before = [(copied / name).read_bytes() for name in ("manifest.json", "receipts.jsonl")]
    with pytest.raises(KeyError, match="'no-such', '99'") as caught:
        folder.delete([in_slice(folder, 0, 0)[0], "no-such", "99"])
    assert isinstance(caught.value, InputError)
    assert [(copied / name).read_bytes() for name in ("manifest.json", "receipts.jsonl")] == before
    with pytest.raises(UnknownRecordError):
        verify_folder(folder, ["no-such"])
    with pytest.raises(InputError, match="ids"):
        folder.delete([])


def test_a_system_serves_until_every_first_slice_is_hit_then_trains_again(copied: Path) -> None:
    data, labels = records()
    system = S3T.load(copied, network())
    assert system.status().expected_requests == pytest.approx(6 * sum(1 / i for i in range(1, 7)))
    gone = []
    for shard in (0, 1):
        for slice_ in range(3):
            assert not system.status().retrain_due
            gone.append(in_slice(system.folder, shard, slice_)[0])
            receipt = system.delete(gone[-1])
            assert system.verify(gone).ok
            assert system.status().live_shards == [s for s in (0, 1) if s > shard or (s == shard and slice_ < 2)]
    assert receipt.status == "retrain-required"
    assert system.status().expected_requests == 0
    with pytest.raises(InputError, match="retrain is due"):
        system.predict(data)
    with pytest.raises(InputError, match="records of shard 0"):
        system.retrain({"pixel_values": data["pixel_values"][:5]}, labels[:5], range(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert system.retrain(data, labels) == [0, 1]
    found = system.verify(gone)
    assert found.ok
    assert set(found.records.values()) == {"deleted"}
    assert all(
        state == "served" for state in system.verify([str(i) for i in range(48) if str(i) not in gone]).records.values()
    )
    assert S3T.load(copied, network()).predict(data).shape == (48,)
    assert sorted(p.name for p in (copied / "shards").iterdir()) == ["0-1", "1-1"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from paperworks.papers.s3t import store
from paperworks.runs import files

source, target, record = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
calls = 0
def killing(function, at):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for at in range(1, 40):
    folder = target / f"killed-{at}"
    shutil.copytree(source, folder)
    child = os.fork()
    if child == 0:
        os.replace = files.os.replace = killing(os.replace, at)       # before a file gets its name
        store.remove = killing(store.remove, at)                      # before a file is erased
        files.os.fsync = killing(os.fsync, at)                        # with a file half written
        store.Folder(folder).delete([record])
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(at)
        break
"""


def test_kill_9_leaves_the_old_state_or_the_new_one_and_verify_says_which(trained: Path, tmp_path: Path) -> None:
    record = in_slice(Folder(trained), 0, 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(trained), str(tmp_path), record], capture_output=True, text=True, check=True
    )
    count = int(done.stdout)
    assert count > 8
    states = []
    for at in range(1, count):
        folder = Folder(tmp_path / f"killed-{at}")
        found = verify_folder(folder, [record])
        assert found.ok, found.problems
        states.append((found.deletions, found.records[record], bool(found.erasing)))
        kept = [q.depth for q in folder.read().sequences[0]]
        assert sorted(kept) == ([3, 3, 3] if found.deletions == 0 else [0, 1, 2])
        Folder(folder.path).recover()
        after = verify_folder(folder, [record])
        assert after.ok
        assert after.erasing == ()
        assert after.records == found.records
        assert not any(p.name.endswith(".partial") for p in folder.path.rglob("*"))
    assert {state[:2] for state in states} == {(0, "served"), (1, "deleted")}
    assert (1, "deleted", True) in states  # killed between the decision and the last erasure
    assert states == sorted(states, key=lambda state: state[0])


def edit(folder: Path, change) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def reseal(content: dict) -> None:
    """What a careful forger does."""
    content.pop("digest")
    content["digest"] = seal(content, None)


def test_a_manifest_that_was_edited_by_hand_is_detected(copied: Path, trained: Path) -> None:
    folder = Folder(copied)
    record = in_slice(folder, 0, 0)[0]
    key, records = folder.read().key(record), dict(folder.read().records.items())
    folder.delete([record])
    good = {path: path.read_bytes() for path in copied.iterdir() if path.is_file()}

    def undone(content: dict) -> None:
        content["journal"] = JournalHead().model_dump()

    def moved(content: dict) -> None:
        content["records"] = write_index(copied, records | {key: (1, 0)}).model_dump()
        reseal(content)

    def revived(content: dict) -> None:
        old = json.loads((trained / "manifest.json").read_text())
        content["sequences"] = old["sequences"]
        reseal(content)

    def forgotten(content: dict) -> None:
        content |= {"journal": JournalHead().model_dump(), "dead": [[], []], "requests": 0}
        reseal(content)

    def rewritten(content: dict) -> None:
        text = (copied / "receipts.jsonl").read_bytes().replace(b'"time":"2', b'"time":"1')
        (copied / "receipts.jsonl").write_bytes(text)
        content["journal"]["digest"] = hashlib.sha256(text).hexdigest()
        reseal(content)

    expected = {
        undone: "was edited",
        moved: "records of its slices",
        revived: "dead slice",
        forgotten: "",
        rewritten: "receipt 1",
    }
    for change, words in expected.items():
        edit(copied, change)
        found = verify_folder(folder)
        if change is forgotten:  # consistent with itself: only a key, or the receipt that the owner was given, shows it
            assert found.deletions == 0
        else:
            assert any(words in problem for problem in found.problems), (words, found.problems)
        for path, content in good.items():
            path.write_bytes(content)
    assert verify_folder(folder).ok
    assert canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_with_a_key_nobody_else_can_seal_a_manifest(copied: Path) -> None:
    manifest = Folder(copied).read()
    keyed = Folder(copied, b"secret")
    keyed.commit(manifest)
    assert verify_folder(keyed).ok
    assert not verify_folder(Folder(copied)).ok
    edit(copied, reseal)
    assert not verify_folder(keyed).ok


def test_tensors_that_were_changed_or_brought_back_are_detected(copied: Path, trained: Path) -> None:
    folder = Folder(copied)
    place = copied / "shards/0-0/0-1-2"
    tensors = load_file(place / "adapter_model.safetensors")
    name = next(n for n in tensors if "lora_B" in n)
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, place / "adapter_model.safetensors", metadata={"format": "pt"})
    assert any("not those that were trained" in p for p in verify_folder(folder).problems)
    shutil.rmtree(copied)
    shutil.copytree(trained, copied)
    folder.delete([in_slice(folder, 0, 2)[0]])
    old = trained / "shards/0-0/0-1-2"
    for file in old.iterdir():  # somebody restores a backup of the shard
        shutil.copy(file, place / file.name)
    found = verify_folder(folder)
    assert found.erasing
    folder.recover()
    assert verify_folder(folder).erasing == ()


def test_a_base_that_is_another_network_is_refused(copied: Path) -> None:
    other = network()
    other.vit.layers[0].mlp.fc1.weight.data += 1
    for _ in range(2):  # it is not wrapped
        with pytest.raises(InputError, match="another network"):
            S3T.load(copied, other)
    with pytest.raises(InputError, match=r"base: found nothing"):
        S3T.load(copied)
    with pytest.raises(InputError, match=r"folder: found .*manifest.json cannot be read"):
        S3T.load(copied / "nothing")


def test_records_are_spread_evenly_and_owners_stay_together() -> None:
    places = assign(50, 3, 4, seed=1)
    sizes = np.bincount(places[:, 0] * 4 + places[:, 1], minlength=12)
    assert sizes.max() - sizes.min() <= 1
    owners = [f"user {i % 17}" for i in range(100)]
    places = assign(100, 2, 3, owners=owners, seed=1)
    assert all(len({tuple(places[i]) for i in range(100) if owners[i] == o}) == 1 for o in set(owners))
    risk = np.arange(60) % 10
    places = assign(60, 2, 3, risk=risk, seed=1)
    for shard in (0, 1):
        means = [risk[(places[:, 0] == shard) & (places[:, 1] == c)].mean() for c in range(3)]
        assert means == sorted(means)
    with pytest.raises(InputError, match="records"):
        assign(5, 2, 3)
    with pytest.raises(InputError, match="owners"):
        assign(60, 2, 3, owners=["one"] * 60)
    with pytest.raises(InputError, match="owners: found 3 owners; expected 60"):
        assign(60, 2, 3, owners=["one"] * 3)


def test_no_slice_is_empty_where_owners_and_risks_are_given() -> None:
    owners = ["big"] * 40 + [f"user {i}" for i in range(6)]  # one owner has most records
    for big in (0.0, 9.0):
        places = assign(46, 1, 3, owners=owners, risk=[big] * 40 + [1.0] * 6)
        assert np.bincount(places[:, 1], minlength=3).min() >= 1
        assert len({tuple(place) for place in places[:40]}) == 1
    for seed in range(20):  # nor where the large owner comes first
        places = assign(46, 2, 3, owners=owners, risk=[1.0] * 46, seed=seed)
        assert len({tuple(place) for place in places.tolist()}) == 6


def test_files_that_were_changed_in_kind_are_problems_and_no_crash(copied: Path) -> None:
    folder = Folder(copied)
    config = copied / "shards/0-0/0-1-2/adapter_config.json"
    good = config.read_text()
    config.write_text(json.dumps(json.loads(good) | {"lora_alpha": 400}))
    assert any("adapter_config.json is not the one" in p for p in verify_folder(folder).problems)
    config.write_text("[]")
    assert any("no object" in p for p in verify_folder(folder).problems)
    config.write_text(good)
    assert verify_folder(folder).ok
    (copied / "manifest.json").write_text("[1]")
    assert any("no manifest" in p for p in verify_folder(folder).problems)
    for call in (lambda: Folder(copied / "none").delete(["1"]), lambda: Folder(copied / "none").recover()):
        with pytest.raises(InputError, match=r"^folder"):
            call()
    assert not (copied / "none").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"rank_pattern": {"query": 2}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"use_dora": True}, "use_dora"),
        ({"exclude_modules": ["query"]}, "exclude_modules"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_options_of_adapters_that_are_not_used_are_refused(option: dict, words: str) -> None:
    with pytest.raises(InputError, match=rf"^peft_config: found {words}"):
        make_system(peft_config=peft.LoraConfig(r=2, target_modules=["query", "value"], **option))
    made = make_system(peft_config=peft.LoraConfig(r=2, lora_alpha=3, target_modules=["query"], task_type="SEQ_CLS"))
    assert (made.lora.r, made.lora.alpha, made.lora.targets) == (2, 3, ("query",))
    with pytest.raises(InputError, match="IA3Config"):
        make_system(peft_config=peft.IA3Config())


def test_questions_that_cannot_be_answered_are_errors_of_the_input(copied: Path) -> None:
    data, _ = records()
    with pytest.raises(InputError, match="no fitted system"):
        make_system().predict(data)
    with pytest.raises(InputError, match="no fitted system"):
        make_system().retrain(data, np.zeros(48, dtype=int), range(48))
    system = S3T.load(copied, network())
    with pytest.raises(InputError, match=r"^task"):
        system.generate([1, 2])
    with pytest.raises(InputError, match=r"^data: found records that the network does not take"):
        system.predict({"pixel_values": data["pixel_values"][:, :, :, :4]})


def test_risks_are_matched_and_served_longer() -> None:
    risk = np.where(np.arange(48) % 3 == 0, 8.0, 1.0)
    system = fit(make_system(n_shards=1, n_slices=3, budget=2, settings=replace(SETTINGS, epochs=0.5)), risk=risk)
    prior = np.array(system.manifest.system.prior)
    assert prior.sum() == pytest.approx(1)
    assert {q.order[0] for q in system.manifest.sequences[0]} == {0, 1}  # the slices that are hit least
    assert system.status().expected_requests > 3 * 1.5


@pytest.mark.parametrize(
    ("options", "call", "field"),
    [
        ({}, {"labels": np.full(48, -1)}, r"labels\[0\]"),
        ({}, {"labels": np.zeros(47, dtype=int)}, "labels"),
        ({}, {"labels": np.full(48, 3)}, "labels"),
        ({}, {"ids": ["a"] * 48}, "ids"),
        ({}, {"ids": ["a"]}, "ids"),
        ({"prior": [0.5, 0.6, 0.1]}, {}, "prior"),
        ({"n_slices": 7}, {}, "n_slices"),
        ({"n_slices": 3.0}, {}, "n_slices"),
        ({"budget": 2.0}, {}, "budget"),
        ({"seed": None}, {}, "seed"),
        ({}, {"classes": ["one", "two"]}, "classes"),
        ({}, {"owners": ["one"] * 40}, "owners"),
        ({"budget": 7}, {}, "budget"),
        ({"aggregation": "sum"}, {}, "aggregation"),
        ({"n_shards": 0}, {}, "n_shards"),
        ({"order": "sideways"}, {}, "order"),
    ],
)
def test_bad_input_names_its_field(options: dict, call: dict, field: str) -> None:
    with pytest.raises(InputError, match=rf"^{field}"):
        fit(make_system(**options), **call)
