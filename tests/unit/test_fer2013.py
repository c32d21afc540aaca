"""FER2013 in every form, its faults, its cache, its repeats. Real data only where somebody has put it."""

import gzip
import io
import os
import re
import tarfile
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_lab import fer2013
from fer_lab.faceset import FER7, FaceSet
from fer_lab.fer2013 import (
    OFFICIAL_COUNTS,
    PIXELS,
    VOTES,
    blank_images,
    cache_dir,
    check_fer2013,
    conflicts,
    convert_fer2013,
    decode_numbers,
    parse_rows,
    read_fer2013,
    read_votes,
    repeats,
    row_fault,
    seen_elsewhere,
    write_fer2013,
)
from fer_lab.pictures import DataError

SIDES = np.array(list(OFFICIAL_COUNTS))
COLUMNS = ["emotion", "pixels", "usage"]


def some_faces(n: int, seed: int = 0) -> FaceSet:
    """Noise with labels and sides, none of it blank or repeated."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n, 1, 48, 48), np.uint8)
    meta = pd.DataFrame({"usage": SIDES[rng.integers(0, 3, n)]})
    return FaceSet("noise", frames, rng.integers(0, 7, n), FER7, meta)


def rows_of(faces: FaceSet) -> list[tuple[str, str, str]]:
    pixels = [" ".join(map(str, image.ravel())) for image in faces.stills()]
    return list(zip(map(str, faces.labels), pixels, faces.meta["usage"]))


def assert_same(read: FaceSet, faces: FaceSet):
    assert np.array_equal(read.stills(), faces.stills())
    assert np.array_equal(read.labels, faces.labels)
    assert list(read.meta["usage"]) == list(faces.meta["usage"])


def pack(data: bytes, kind: str, path: Path) -> Path:
    """A table, wrapped as people have it; the name says nothing about what is inside."""
    if kind == "csv":
        path.write_bytes(data)
    elif kind == "gz":
        path.write_bytes(gzip.compress(data, 1))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/._fer2013.csv", "junk")
            archive.writestr("some folder/fer2013.csv", data)
    elif kind == "tar.gz":
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name, content in (("fer2013/README", b"about"), ("fer2013/fer2013.csv", data)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif kind == "tar.gz in zip":
        inner = pack(data, "tar.gz", path.with_suffix(".inner")).read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("fer2013.tar.gz", inner)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_CACHE_DIR", str(tmp_path / "the cache"))


def cached() -> list[str]:
    return sorted(path.name for path in cache_dir().rglob("*")) if cache_dir().exists() else []


def refusal(path: Path, **more) -> str:
    """What is said about an unusable file, after checking that nothing of it was kept."""
    with pytest.raises(DataError) as caught:
        read_fer2013(path, **more)
    assert not [name for name in cached() if name != "fer2013"]
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 900
    return str(caught.value)


# ---- numbers

@given(st.lists(st.integers(0, 999), max_size=40), st.data())
def test_numbers_come_out_as_they_went_in(numbers, data):
    gaps = data.draw(st.lists(st.integers(1, 4), min_size=len(numbers) + 1, max_size=len(numbers) + 1))
    text = " " * (gaps[-1] - 1) + "".join(f"{number}{' ' * gap}" for number, gap in zip(numbers, gaps))
    values, ends, well = decode_numbers(text.encode())
    assert well and values.tolist() == numbers
    assert ends.tolist() == [match.end() - 1 for match in re.finditer(r"\d+", text)]


@given(st.text(alphabet="0123456789 -.,a\t\0é", max_size=30).map(str.encode))
def test_anything_but_short_numbers_and_blanks_is_noticed(text):
    assert decode_numbers(text)[2] == bool(re.fullmatch(rb" *(\d{1,3}( +|$))*", text))


GOOD = [",".join(row).encode() for row in rows_of(some_faces(3))]


@settings(max_examples=100)
@given(st.integers(0, 2), st.data())
def test_the_fast_way_refuses_exactly_the_rows_the_slow_way_can_name(i, data):
    end = len(GOOD[i]) - 1
    at = data.draw(st.integers(0, end) | st.integers(end - 20, end) | st.integers(0, 9))
    length = data.draw(st.integers(0, 3))
    new = data.draw(st.text(alphabet='0123456789 ,"x-.\t\r', max_size=3)).encode()
    lines = [*GOOD[:i], GOOD[i][:at] + new + GOOD[i][at + length:], *GOOD[i + 1:]]
    parsed = parse_rows(lines, COLUMNS)
    assert (parsed is None) == (row_fault(lines[i], COLUMNS) is not None)
    if parsed is not None:
        assert parsed[0][i].tolist() == [int(word) for word in lines[i].split(b",")[1].strip(b' "\t\r').split()]


def test_a_number_moved_to_the_next_row_is_noticed():
    label, pixels, usage = GOOD[0].split(b",")
    last = pixels.rsplit(b" ", 1)[1]
    moved = [b",".join([label, pixels.rsplit(b" ", 1)[0], usage]), GOOD[1].replace(b",", b"," + last + b" ", 1)]
    assert parse_rows(moved, COLUMNS) is None and "2303 pixels" in row_fault(moved[0], COLUMNS)


# ---- forms

@settings(max_examples=25)
@given(n=st.integers(1, 4), seed=st.integers(0, 99),
       kind=st.sampled_from(["csv", "gz", "zip", "tar.gz", "tar.gz in zip"]), end=st.sampled_from(["\n", "\r\n"]),
       quote=st.sampled_from(["", '"']), blank=st.sampled_from(["", " "]),
       order=st.permutations([0, 1, 2]), last=st.sampled_from(["", "end", "blank lines"]), bom=st.booleans())
def test_every_form_reads_back(tmp_path_factory, n, seed, kind, end, quote, blank, order, last, bom):
    faces = some_faces(n, seed)
    table = [("emotion", "pixels", "Usage"), *rows_of(faces)]
    lines = [f",{blank}".join(f"{quote}{row[i]}{quote}" for i in order) for row in table]
    text = end.join(lines) + {"": "", "end": end, "blank lines": end * 3}[last]
    path = tmp_path_factory.mktemp("form") / "whatever.bin"
    assert_same(read_fer2013(pack(text.encode("utf-8-sig" if bom else "utf-8"), kind, path)), faces)


def test_icml_face_data_with_its_leading_spaces(tmp_path):
    faces = some_faces(3)
    lines = ["emotion, Usage, pixels", *(f"{label},{usage},{pixels}" for label, pixels, usage in rows_of(faces))]
    (tmp_path / "icml_face_data.csv").write_text("\n".join(lines) + "\n")
    assert_same(read_fer2013(tmp_path), faces)


def test_kaggles_pair_of_files(tmp_path):
    faces = some_faces(5)
    rows = rows_of(faces)
    train = [f'{label},"{pixels}"\n' for label, pixels, _ in rows[:3]]
    test = [f"{pixels}\n" for _, pixels, _ in rows[3:]]
    (tmp_path / "train.csv").write_text("".join(["emotion,pixels\n", *train]))
    (tmp_path / "test.csv").write_text("".join(["pixels\n", *test]))
    read = read_fer2013(tmp_path)
    assert np.array_equal(read.frames, faces.frames)
    assert read.labels.tolist() == [*faces.labels[:3], -1, -1]
    assert list(read.meta["usage"]) == ["Training"] * 3 + ["Test"] * 2
    assert len(read_fer2013(tmp_path / "test.csv")) == 2


def class_folders(faces: FaceSet, top: Path, names=FER7.classes, kind="png") -> Path:
    for i, (image, label, usage) in enumerate(zip(faces.stills(), faces.labels, faces.meta["usage"])):
        picture = top / usage / names[label] / f"{i:04d}.{kind}"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(picture)
    return top


def test_class_folders(tmp_path):
    faces = some_faces(12)
    names = ("Angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    (tmp_path / "notes.txt").write_text("not a picture")
    read = read_fer2013(class_folders(faces, tmp_path, names))
    order = [int(np.flatnonzero((faces.frames == frame).all((1, 2, 3)))[0]) for frame in read.frames]
    assert sorted(order) == list(range(12))
    assert_same(read, faces.subset(order))
    sides = faces.meta.assign(usage=["train", "test"] * 6)
    merged = read_fer2013(class_folders(replace(faces, meta=sides), tmp_path / "kaggle"), cache=False)
    assert set(merged.meta["usage"]) == {"Training", "Test"}  # never taken for PrivateTest


@pytest.mark.parametrize("others", [[], ["train.csv", "test.csv"], ["icml_face_data.csv", "fer2013.zip"]])
def test_the_most_complete_form_in_a_folder_is_read(tmp_path, others):
    for name in others:
        (tmp_path / name).write_text("not to be opened")
    (tmp_path / "fer2013").mkdir()
    home = tmp_path / "fer2013" if not others else tmp_path
    assert_same(read_fer2013(write_fer2013(some_faces(2), home / "fer2013.csv").parent), some_faces(2))
    assert_same(read_fer2013(tmp_path), some_faces(2))


# ---- faults

HEADER = b"emotion,pixels,Usage\n"
ROW = b"3," + b" ".join([b"70"] * PIXELS) + b",Training\n"
PLANTED = {
    "one pixel less": (HEADER + ROW * 2 + ROW.replace(b"70 ", b"", 1), "line 4 (row 2", "2303 pixels, expected 2304"),
    "one pixel more": (HEADER + ROW.replace(b"70 ", b"70 70 ", 1), "line 2 (row 0", "2305 pixels, expected 2304"),
    "256": (HEADER + ROW + ROW.replace(b" 70", b" 256", 1), "line 3 (row 1", "pixel 1 is '256', expected a whole"),
    "a thousand": (HEADER + ROW.replace(b",70", b",1000", 1), "row 0", "pixel 0 is '1000'"),
    "negative": (HEADER + ROW.replace(b" 70", b" -7", 1), "row 0", "pixel 1 is '-7'"),
    "decimal": (HEADER + ROW.replace(b" 70", b" 0.5", 1), "row 0", "pixel 1 is '0.5'"),
    "not a number": (HEADER + ROW.replace(b" 70", b" NaN", 1), "row 0", "pixel 1 is 'NaN'"),
    "label 7": (HEADER + ROW + b"7" + ROW[1:], "row 1", "unknown label '7', expected 0 to 6 (anger"),
    "label in words": (HEADER + b"happy" + ROW[1:], "row 0", "unknown label 'happy'"),
    "no label": (HEADER + ROW[1:], "row 0", "unknown label ''"),
    "side": (HEADER + ROW.replace(b"Training", b"Train"), "row 0", "unknown Usage 'Train', expected Training"),
    "a column more": (HEADER + b"0," + ROW, "row 0", "4 columns, expected 3"),
    "blank line before": (HEADER + b"\n\n" + ROW + b"\n" + ROW.replace(b"70 ", b"", 1), "line 6 (row 1", "2303 pixels"),
    "no pixels": (HEADER + b"3,,Training\n", "row 0", "0 pixels, expected 2304"),
    "cut inside pixels": (HEADER + ROW + ROW[:3000], "line 3 (row 1", "The file ends inside this row: it is truncated"),
    "cut inside the side": (HEADER + ROW + ROW[:-4], "line 3 (row 1", "truncated"),
    "in a later block": (HEADER + ROW * 99 + ROW.replace(b"70 ", b"", 1) + ROW * 9, "line 101 (row 99", "2303 pixels"),
    "empty": (b"", "is empty", "Get the file again"),
    "blank": (b"\n\n", "is empty", "Get the file again"),
    "header only": (HEADER, "header but no rows", "Get the file again"),
    "no header": (ROW, "line 1", "Is the header line missing?"),
    "no emotion": (b"pixels,Usage\n" + ROW[2:], "columns must be emotion, pixels, Usage", "Found 'pixels', 'usage'"),
    "no pixel column": (b"emotion,Usage\n3,Training\n", "columns must be", "Found 'emotion', 'usage'"),
    "a column twice": (b"emotion,pixels,pixels\n" + ROW, "columns must be", "'pixels', 'pixels'"),
    "semicolons": ((HEADER + ROW).replace(b",", b";"), "columns must be", "'emotion;pixels;usage'"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "lfs pull"),
    "web page": (b"<!DOCTYPE html>\n<html><title>Kaggle</title></html>", "is a web page", "login"),
    "UTF-16": ((HEADER + ROW).decode().encode("utf-16"), "UTF-16", "UTF-8"),
    "noise": (np.random.default_rng(0).integers(1, 255, 3_000_000, np.uint8).tobytes(), "columns must be", "header"),
    "no line ends": (HEADER + ROW.replace(b"\n", b" ") * 300, "row 0", "columns, expected 3"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_faulty_table_is_refused_by_place_and_remedy(tmp_path, name):
    data, place, words = PLANTED[name]
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    message = refusal(path)
    assert "mine.csv" in message and place in message and words in message


@pytest.mark.parametrize("kind", ["gz", "zip", "tar.gz"])
def test_a_fault_inside_an_archive_names_the_archive(tmp_path, kind):
    message = refusal(pack(HEADER + ROW + ROW[:3000], kind, tmp_path / f"fer2013.{kind}"))
    assert f"fer2013.{kind}" in message and "row 1" in message and "truncated" in message


def test_a_published_name_brings_the_check_sum(tmp_path):
    (tmp_path / "fer2013.csv").write_bytes(HEADER + ROW[:500])
    assert re.search(r"md5 [0-9a-f]{32}, expected f8428a1edbd21e88f42c73edd2a14f95", refusal(tmp_path))


@settings(max_examples=30)
@given(st.integers(0, len(HEADER + ROW * 3) - 1))
def test_a_table_cut_anywhere_is_refused_or_ends_with_a_whole_row(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("cut") / "fer2013.csv"
    path.write_bytes((HEADER + ROW * 3)[:length])
    try:
        faces = read_fer2013(path, cache=False)
    except DataError as error:
        assert "fer2013.csv" in str(error)
    else:
        whole = length + ((HEADER + ROW * 3)[length:length + 1] == b"\n")  # only the line end is missing
        assert (whole - len(HEADER)) == len(faces) * len(ROW) and (faces.frames == 70).all()


@settings(max_examples=30)
@given(kind=st.sampled_from(["gz", "zip", "tar.gz"]), share=st.floats(0, 1, exclude_max=True))
def test_an_archive_cut_anywhere_is_refused(tmp_path_factory, kind, share):
    noise = some_faces(2)
    folder = tmp_path_factory.mktemp("cut")
    data = pack(write_fer2013(noise, folder / "table").read_bytes(), kind, folder / "whole").read_bytes()
    path = folder / f"fer2013.{kind}"
    path.write_bytes(data[:int(share * (len(data) - 1))])
    try:
        read = read_fer2013(path, cache=False)
    except DataError as error:
        assert path.name in str(error)
    else:  # a tar may lose its padding and still be whole
        assert kind == "tar.gz" and np.array_equal(read.frames, noise.frames)


def test_archives_without_a_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("train/angry/1.png", b"x")
    assert "it holds train/angry/1.png. Unpack it" in refusal(tmp_path)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("fer2013.csv"))
        archive.addfile(tarfile.TarInfo("photo.jpg"))
    assert "is empty" in refusal(tmp_path / "x.tar.gz")


def test_faulty_pictures_are_named(tmp_path):
    top = class_folders(some_faces(3), tmp_path / "pictures")
    spoilt = top / "Training" / "fear" / "spoilt.png"
    spoilt.parent.mkdir(parents=True, exist_ok=True)
    spoilt.write_bytes(b"")
    assert "spoilt.png is empty (0 bytes)" in refusal(top)
    Image.new("L", (96, 48)).save(spoilt)
    assert "spoilt.png is 96 × 48 pixels; FER2013 has 48 × 48" in refusal(top)
    (top / "Training" / "fear").rename(top / "Training" / "afraid")
    assert "unknown label 'afraid'" in refusal(top)


def test_nothing_there(tmp_path):
    message = refusal(tmp_path / "missing")
    assert "missing" in message and "fer2013.csv.gz" in message and "kaggle.com" in message
    (tmp_path / "fer2013new.csv").write_text("votes alone")
    assert "found: fer2013new.csv" in refusal(tmp_path)


# ---- cache

def test_the_second_read_is_a_memory_map_of_the_same(tmp_path):
    faces = some_faces(4)
    path = write_fer2013(faces, tmp_path / "fer2013.csv")
    first, second = read_fer2013(path), read_fer2013(path)
    assert isinstance(second.frames, np.memmap) and not second.frames.flags.writeable
    assert_same(second, faces)
    assert first.fingerprint == second.fingerprint == read_fer2013(path, cache=False).fingerprint
    assert len([name for name in cached() if name.endswith("frames.npy")]) == 1


@pytest.mark.parametrize("change", ["content", "time", "size", "version"])
def test_a_changed_source_is_read_again(tmp_path, monkeypatch, change):
    path = write_fer2013(some_faces(2), tmp_path / "fer2013.csv")
    assert_same(read_fer2013(path), some_faces(2))
    before = path.stat()
    other = some_faces(3, seed=7) if change == "size" else some_faces(2, seed=0 if change in ("time", "version") else 7)
    write_fer2013(other, path)
    if change == "version":
        monkeypatch.setattr(fer2013, "READER", fer2013.READER + 1)
    if change != "content":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "time")))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert_same(read_fer2013(path), other)
    assert cached().count("frames.npy") == 2


@pytest.mark.parametrize("spoil", ["cut", "remove", "empty", "rows"])
def test_a_spoilt_cache_is_made_again(tmp_path, spoil):
    path = write_fer2013(some_faces(4), tmp_path / "fer2013.csv")
    read_fer2013(path)
    frames = next(cache_dir().rglob("frames.npy"))
    if spoil == "cut":
        os.truncate(frames, 5000)
    elif spoil == "remove":
        frames.unlink()
    elif spoil == "empty":
        frames.write_bytes(b"")
    else:
        np.save(frames.with_name("labels.npy"), np.zeros(3, np.int8))
    assert_same(read_fer2013(path), some_faces(4))
    assert cached().count("frames.npy") == 1


def test_a_writer_stopped_half_way_leaves_nothing(tmp_path, monkeypatch):
    path, real = write_fer2013(some_faces(2), tmp_path / "fer2013.csv"), np.save

    def stop(file, part):
        if "labels" in file.name:
            raise KeyboardInterrupt
        real(file, part)

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        read_fer2013(path)
    assert cached() == ["fer2013"]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache folder should be")
    monkeypatch.setenv("FER_LAB_CACHE_DIR", str(blocked))
    path = write_fer2013(some_faces(2), tmp_path / "fer2013.csv")
    with pytest.warns(UserWarning, match="not cached"):
        assert_same(read_fer2013(path), some_faces(2))


def test_first_reads_at_the_same_time_agree(tmp_path):
    faces = some_faces(6)
    path = write_fer2013(faces, tmp_path / "fer2013.csv")
    start, results = threading.Barrier(6), []

    def read():
        start.wait()
        results.append(read_fer2013(path))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for result in results:
        assert_same(result, faces)
    assert cached().count("frames.npy") == 1 and not [name for name in cached() if name.endswith(".draft")]


def test_a_draft_that_vanishes_while_the_folder_is_tidied_does_no_harm(tmp_path):
    folder = cache_dir() / "fer2013"
    folder.mkdir(parents=True)
    (folder / ".gone.draft").symlink_to(tmp_path / "renamed by another process")  # listed, but not there to be asked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_fer2013(write_fer2013(some_faces(2), tmp_path / "fer2013.csv"))
    assert cached().count("frames.npy") == 1


def test_drafts_of_dead_processes_are_removed_after_a_day(tmp_path):
    old, new = (cache_dir() / "fer2013" / f".{name}.draft" for name in ("old", "new"))
    for draft in (old, new):
        draft.mkdir(parents=True)
    os.utime(old, (time.time() - 90000,) * 2)
    read_fer2013(write_fer2013(some_faces(2), tmp_path / "fer2013.csv"))
    assert new.exists() and not old.exists()


# ---- votes

def write_votes(path: Path, faces: FaceSet, seed: int = 0) -> np.ndarray:
    votes = np.random.default_rng(seed).integers(0, 11, (len(faces), len(VOTES)))
    table = pd.DataFrame(votes, columns=list(VOTES))
    table.insert(0, "Usage", faces.meta["usage"])
    table.insert(1, "Image name", "")
    table.to_csv(path, index=False)
    return votes


def test_votes_beside_the_table_are_joined_by_row(tmp_path):
    faces = some_faces(5)
    path = write_fer2013(faces, tmp_path / "fer2013.csv")
    assert not [name for name in read_fer2013(path).meta if name.startswith("vote_")]
    votes = write_votes(tmp_path / "fer2013new.csv", faces)
    for read in (read_fer2013(path), read_fer2013(path), read_fer2013(tmp_path, cache=False)):
        assert np.array_equal(read.meta[[f"vote_{name}" for name in VOTES.values()]], votes)
    assert {"vote_contempt", "vote_no_face"} < set(read.meta)


def test_votes_asked_for_must_be_there(tmp_path):
    path = write_fer2013(some_faces(1), tmp_path / "fer2013.csv")
    assert "no.csv does not exist" in refusal(path, votes=tmp_path / "no.csv")
    with pytest.raises(DataError, match="no.csv cannot be read"):
        read_fer2013(path, votes=tmp_path / "no.csv", cache=False)


def test_votes_that_belong_to_other_rows_are_refused(tmp_path):
    faces = some_faces(8)
    path = write_fer2013(faces, tmp_path / "fer2013.csv")
    write_votes(tmp_path / "fer2013new.csv", faces.subset(range(7)))
    assert "7 rows" in refusal(path) and "row by row" in refusal(path)
    write_votes(tmp_path / "fer2013new.csv", faces.subset([7, *range(7)]))
    assert "agree row by row" in refusal(path)
    tree = class_folders(faces, tmp_path / "tree")
    write_votes(tree / "fer2013new.csv", faces)
    assert "vote_fear" not in read_fer2013(tree).meta


@pytest.mark.parametrize("text, words", [
    ("", "is empty"), ("a,b\n1,2\n", "no FER+ table"), ("version https://git-lfs.github.com/spec/v1\n", "LFS"),
    ("Usage," + ",".join(VOTES) + "\nTraining" + ",1" * 9 + ",x\n", "line 2"),
    ("Usage," + ",".join(VOTES) + "\nTraining" + ",1" * 10 + "\nTraining" + ",1" * 9 + ",-1\n", "line 3"),
    ("Usage," + ",".join(VOTES) + "\nTrain" + ",1" * 10 + "\n", "line 2"),
    ("Usage," + ",".join(VOTES) + "\nTraining" + ",1" * 9 + "\n", "line 2"),
])
def test_faulty_votes_are_refused(tmp_path, text, words):
    path = tmp_path / "fer2013new.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="fer2013new.csv") as caught:
        read_votes(path)
    assert words in str(caught.value)


# ---- repeats

def test_planted_repeats_conflicts_and_blanks_are_found():
    base = some_faces(6)
    frames = base.frames.copy()
    frames[5] = 17
    faces = FaceSet("planted", frames, base.labels, FER7, pd.DataFrame({"usage": SIDES[[0, 0, 0, 1, 2, 2]]}))
    faces = faces.subset([0, 1, 2, 3, 4, 5, 0, 1, 3, 4])  # again: two Training, one Public, one Private image
    labels = faces.labels.copy()
    labels[6] = (labels[0] + 1) % 7
    faces = replace(faces, labels=labels, meta=faces.meta.assign(usage=SIDES[[0, 0, 0, 1, 2, 2, 2, 1, 2, 2]]))
    assert np.flatnonzero(seen_elsewhere(faces)).tolist() == [6, 8]
    again = repeats(faces)["images"]
    assert again.to_dict() == {
        "copies inside Training": 0, "copies inside PublicTest": 0, "PublicTest, also in Training": 1,
        "copies inside PrivateTest": 1, "PrivateTest, also in Training": 1, "PrivateTest, also in PublicTest": 1}
    assert conflicts(faces)["items"].tolist() == ["0, 6"] and blank_images(faces).tolist() == [5]
    check = check_fer2013(faces)
    assert check.classes["all"].tolist() == [3, 2, 5] and check.blank["grey"].tolist() == [17]
    assert "Not complete: 3 / 2 / 5" in str(check) and "different labels: 1<" in check._repr_html_()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12))
def test_seen_elsewhere_is_what_comparing_all_pairs_finds(items):
    frames = np.stack([np.full((1, 48, 48), value, np.uint8) for value, _ in items])
    usage = SIDES[[side for _, side in items]]
    faces = FaceSet("x", frames, np.zeros(len(items), int), FER7, pd.DataFrame({"usage": usage}))
    expected = [side == 2 and any(v == value and s != 2 for v, s in items) for value, side in items]
    assert seen_elsewhere(faces).tolist() == expected


def test_unlabelled_faces_conflict_with_nothing():
    faces = some_faces(2).subset([0, 0])
    faces = replace(faces, labels=np.array([2, -1]))
    assert len(conflicts(faces)) == 0 and "unlabelled" in check_fer2013(faces).classes


def test_faces_without_sides_are_refused_in_words():
    with pytest.raises(DataError, match="no meta column 'usage'"):
        seen_elsewhere(FaceSet("x", some_faces(1).frames, np.array([0]), FER7))


# ---- out again

def test_pictures_and_arrays_hold_the_same_faces(tmp_path):
    faces = some_faces(12)
    read = read_fer2013(convert_fer2013(faces, "png", tmp_path / "pictures"), cache=False)
    order = [int(np.flatnonzero((faces.frames == frame).all((1, 2, 3)))[0]) for frame in read.frames]
    assert sorted(order) == list(range(12))
    assert_same(read, faces.subset(order))
    with np.load(convert_fer2013(faces, "npz", tmp_path / "a" / "faces.npz"), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["pixels"], faces.stills()[:, 0]) and np.array_equal(arrays["labels"], faces.labels)
        assert list(arrays["usage"]) == list(faces.meta["usage"]) and tuple(arrays["classes"]) == faces.classes
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "the cache") == ["a", "pictures"]


@pytest.mark.parametrize("to, words", [("pickle", "runs the code"), ("pkl", "npz"), ("jpg", "there are png, npz")])
def test_other_formats_are_refused_with_the_reason(tmp_path, to, words):
    with pytest.raises(DataError, match=words):
        convert_fer2013(some_faces(2), to, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("to", ["png", "npz"])
def test_nothing_is_written_over_and_nothing_is_left_half_written(tmp_path, monkeypatch, to):
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(DataError, match="not written over"):
        convert_fer2013(some_faces(2), to, there)
    assert there.read_text() == "mine"

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_fer2013(some_faces(2), to, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_images_without_a_label_have_no_folder_to_stand_in(tmp_path):
    faces = replace(some_faces(3), labels=np.array([0, -1, 2]))
    with pytest.raises(DataError, match="1 images have no label"):
        convert_fer2013(faces, "png", tmp_path / "x")
    with np.load(convert_fer2013(faces, "npz", tmp_path / "x.npz")) as arrays:
        assert arrays["labels"].tolist() == [0, -1, 2]


# ---- the real file

def test_real_rows_are_those_of_a_plain_parser(fer2013, fer2013_folder):
    packed = fer2013_folder / "fer2013.csv.gz"
    if not packed.exists():
        pytest.skip("fer2013.csv.gz is not there")
    with gzip.open(packed, "rt") as file:
        next(file)
        for i in range(200):
            label, pixels, usage = next(file).split(",")
            assert fer2013.frames[i].ravel().tolist() == [int(word) for word in pixels.split()]
            assert fer2013.labels[i] == int(label) and fer2013.meta["usage"][i] == usage.strip()


def test_real_counts_and_repeats(fer2013):
    check = check_fer2013(fer2013)
    assert check.verdict.startswith("Complete")
    assert check.classes.to_numpy().tolist() == [
        [3995, 436, 4097, 7215, 4830, 3171, 4965, 28709],
        [467, 56, 496, 895, 653, 415, 607, 3589],
        [491, 55, 528, 879, 594, 416, 626, 3589]]
    again = check.repeats["images"]
    assert again["copies inside Training"] == 1236 and again["PrivateTest, also in Training"] == 288
    assert seen_elsewhere(fer2013).sum() == 314 and len(check.conflicts) == 57 and len(check.blank) == 12


def test_real_votes(fer2013):
    if "vote_fear" not in fer2013.meta:
        pytest.skip("fer2013new.csv is not there")
    total = fer2013.meta[[name for name in fer2013.meta if name.startswith("vote_")]].sum(axis=1)
    assert total.value_counts().to_dict() == {10: 35886, 9: 1}
