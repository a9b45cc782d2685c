"""Tables and folders as people have them: read as meant, or refused with what to do about it."""

import csv
import os
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from compress.analysis.summary import summarise
from compress.data.dataset import Dataset
from compress.data.keypoints import PointColumns
from compress.data.layouts import check_classes, read_folder, read_rows
from compress.data.split import draw_split
from compress.data.tables import read_csv
from compress.report.write import write_report
from compress.utils.errors import UserError
from compress.utils.files import is_own
from compress.utils.progress import Progress
from compress.workflow.run import alone
from compress.workflow.stages.data import fingerprint
from tests.result_factory import result


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "navy").save(folder / name)
    return folder


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding)
    return path


def labels(data: Dataset) -> dict[str, str | None]:
    return {image.path: image.label for image in data.images}


def splits(data: Dataset) -> dict[str, str | None]:
    return {image.path: image.split for image in data.images}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_classes(read_folder(path))
    return str(caught.value)


FOUR = ("a.png", "b.png", "c.png", "d.png")


def test_known_columns_are_taken_by_preference_and_said(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "id,image,label", "p1,a.png,cat", "p1,b.png,dog", "p2,c.png,cat")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.notes == ("train.csv: images from the column 'image', labels from 'label'",)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Image,Id,x", "a.png,{},3"),  # whales: the individual is what is asked for
        ("id,label", "a.png,{}"),
        ("image_id,dx", "a,{}"),
        ("file_name,age,Category", "a.png,7,{}"),
        ("name,id", "a.png,{}"),
        (",path,Class Name", "0,a.png,{}"),
    ],
)
def test_headers_as_people_have_them(header: str, row: str, tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    other = row.replace("a.png", "b.png").replace("a,{}", "b,{}")
    write(tmp_path / "train.csv", header, row.format("cat"), other.format("dog"))
    found = labels(read_folder(tmp_path))
    assert (found["imgs/a.png"], found["imgs/b.png"]) == ("cat", "dog")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_blank_lines(separator: str, encoding: str, tmp_path: Path) -> None:
    images(tmp_path, *FOUR)
    rows = [["path", "label"], ["a.png", "Café, noir; extra"], [], ["b.png", "tea"], ["", ""]]
    with (tmp_path / "train.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert labels(read_folder(tmp_path)) == {"a.png": "Café, noir; extra", "b.png": "tea"}


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    images(tmp_path, *FOUR)
    write(tmp_path / "train.csv", "image,label", "", 'a.png,"two', 'lines"', "", "no.png,x")
    assert "train.csv:6: 'no.png' does not exist" in refused(tmp_path)


def test_a_comma_parts_decimals_where_semicolons_part_columns(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image;eye_x;eye_y", "a.png;1,5;2,25", "b.png;3;4")
    data = read_folder(tmp_path, points=PointColumns.of(["eye"]))
    assert data.images[0].points == ((1.5, 2.25),) and data.images[1].points == ((3, 4),)


def test_a_comma_parts_decimals_where_tabs_part_columns(tmp_path: Path) -> None:
    """As spreadsheets save "Unicode text" where decimals have commas."""
    images(tmp_path / "imgs", *FOUR)
    rows = ["image\teye_x\teye_y", "a.png\t1,5\t2.25", "b.png\t3\t4"]
    write(tmp_path / "train.csv", *rows, encoding="utf-16")
    data = read_folder(tmp_path, points=PointColumns.of(["eye"]))
    assert data.images[0].points == ((1.5, 2.25),) and data.images[1].points == ((3, 4),)


@pytest.mark.parametrize(
    "later",
    [[], ["e.png,y"], ['e.png,"y"', "f.png,x"], ["e.png," + "y" * 200_000]],
    ids=["at the end", "the only one", "before a quoted cell", "past what a cell may hold"],
)
def test_a_quote_that_is_not_closed_swallows_no_lines(later: list[str], tmp_path: Path) -> None:
    rows = ["image,label", "", "a.png,x", "", 'b.png,"y', *later]
    table = write(tmp_path / "train.csv", *rows)
    with pytest.raises(UserError, match=r"train.csv:5: .* quote"):
        read_csv(table)


def test_a_label_of_several_lines_is_a_fault(tmp_path: Path) -> None:
    images(tmp_path, *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", 'b.png,"y', 'c.png,x"', "d.png,y")
    assert "train.csv:4: 'b.png' has a label of several lines" in refused(tmp_path)


def test_quoted_cells_may_hold_lines_and_loose_quotes_stay(tmp_path: Path) -> None:
    rows = [
        "image,text",
        'a.png,"a ""whale"",',
        "",
        'e.png,blowing"',
        'b.png,"Big" fin',
        'c.png,5"',
    ]
    table = read_csv(write(tmp_path / "train.csv", *rows))
    texts = ['a "whale",\n\ne.png,blowing', "Big fin", '5"']
    assert [row["text"] for row in table.rows] == texts
    assert table.lines == [4, 5, 6]


@pytest.mark.parametrize("none", ["", "nan", "NaN", "inf", "none"])
def test_a_cell_that_says_that_there_is_none_is_no_number(none: str, tmp_path: Path) -> None:
    table = read_csv(write(tmp_path / "boxes.csv", "image,x", "a.png,3.5", f"b.png,{none}"))
    assert [table.number(row, "x") for row in table.rows] == [3.5, None]


@pytest.mark.parametrize("table", [True, False], ids=["table", "class folders"])
def test_where_images_lie_runs_and_reports_may_be_written(table: bool, tmp_path: Path) -> None:
    """Most people work in the folder of their images: what was made there is not read as data."""
    if table:
        images(tmp_path, *FOUR)
        write(tmp_path / "train.csv", "image,label", *(f"{x},{x[0] > 'b'}" for x in FOUR))
    else:
        images(tmp_path, *(f"{kind}/{x}" for kind in ("one", "two") for x in FOUR))
    before = fingerprint(tmp_path), read_folder(tmp_path)
    with alone(tmp_path, Progress(Console(quiet=True))):
        images(tmp_path / "runs" / "stages" / "data-1" / "built", *FOUR)
        write(tmp_path / "runs" / "stages" / "data-1" / "split.csv", "Image,split", "a.png,train")
        write_report(summarise([result("teacher", role="teacher")]), tmp_path / "reports/mine", "")
        write_report(summarise([result("teacher", role="teacher")]), tmp_path / "joined", "")
        assert (fingerprint(tmp_path), read_folder(tmp_path)) == before
    images(tmp_path / "runs.2" / "not ours", "z.png")
    assert fingerprint(tmp_path) != before[0]
    theirs = images(tmp_path / "theirs", "z.png")
    write_report(summarise([result("teacher", role="teacher")]), theirs, "")
    assert not is_own(theirs)  # images lay there before


def test_lists_without_a_header_as_caffe_has_them(tmp_path: Path) -> None:
    images(tmp_path, "cat/1 a.png", "cat/2.png", "dog/1.png")
    table = write(tmp_path / "list.txt", "cat/1 a.png 0", "cat/2.png 0", "dog/1.png 1")
    expected = {"cat/1 a.png": "0", "cat/2.png": "0", "dog/1.png": "1"}
    assert labels(read_folder(table)) == expected
    write(table, "cat/1 a.png,0", "cat/2.png,0", "dog/1.png,1")
    assert labels(read_folder(table)) == expected
    write(table, "cat/2.png,0,7", "dog/1.png,1,8")
    assert "add a header line" in refused(table)


def test_the_contents_of_any_table_are_part_of_the_key(tmp_path: Path) -> None:
    images(tmp_path, "1.png", "2.png")
    table = write(tmp_path / "list.txt", "1.png 0", "2.png 1")
    before = fingerprint(table)
    write(table, "1.png 1", "2.png 0")
    assert fingerprint(table) != before


def test_names_as_people_write_them(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    images(tmp_path / "imgs", "img_001.jpg", "sub/b.png", "IMG_2.PNG", apart)
    rows = ["img_001,x", "sub\\b.png,x", "img_2.png,y", f"{composed},y"]
    write(tmp_path / "train.csv", "Image,label", *rows)
    assert labels(read_folder(tmp_path)) == {
        "imgs/img_001.jpg": "x",
        "imgs/sub/b.png": "x",
        "imgs/IMG_2.PNG": "y",
        f"imgs/{apart}": "y",
    }


def test_a_name_of_two_images_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "imgs", "a.png", "a.jpg", "b.png")
    write(tmp_path / "train.csv", "Image,label", "a,x", "..\\..\\b,y")
    text = refused(tmp_path)
    assert "'a' may be any of imgs/a.jpg, imgs/a.png: write the whole name" in text
    assert "'..\\\\..\\\\b' does not exist" in text


def test_labels_of_one_name_in_two_spellings_are_one_class(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Möwe") for form in ("NFC", "NFD")]
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "Image,label", *map(",".join, zip(FOUR, names, strict=False)))
    assert read_folder(tmp_path).classes == (names[0],)
    for split, name in zip(("train", "valid"), names, strict=True):
        images(tmp_path / "folders" / split, f"{name}/a.png", "gull/b.png")
    assert read_folder(tmp_path / "folders").classes == (names[0], "gull")


def test_a_column_for_each_class(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,cat,dog,age", "a.png,1.0,0.0,3", "b.png,0.0,1.0,5")
    data = read_folder(tmp_path)
    assert labels(data) == {
        "imgs/a.png": "cat", "imgs/b.png": "dog", "imgs/c.png": None, "imgs/d.png": None,
    }  # fmt: skip
    assert "labels from 2 columns of 0 and 1, cat, dog" in data.notes[0]
    write(tmp_path / "val.csv", "image,cat,dog,age", "c.png,0,1,1", "d.png,maybe,1,2")
    assert labels(read_folder(tmp_path))["imgs/c.png"] == "dog"
    (tmp_path / "val.csv").unlink()
    write(tmp_path / "train.csv", "image,cat,dog", "a.png,1,1", "b.png,0,0", "c.png,1,0")
    assert "train.csv:2: 'a.png' must have 1 in exactly one of the columns cat, dog" in (
        refused(tmp_path)
    )


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_table_of_validation_images(name: str, tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / f"{name}.csv", "image,label", "c.png,x")
    assert splits(read_folder(tmp_path)) == {
        "imgs/a.png": "train",
        "imgs/b.png": "train",
        "imgs/c.png": "validation",
        "imgs/d.png": "unlabelled",
    }
    write(tmp_path / f"{name}.csv", "image,label", "a.png,x")
    assert f"{name}.csv:2: 'a.png' is there twice" in refused(tmp_path)


def test_images_of_a_labelled_test_table_are_held_out(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / "test.csv", "image,label", "c.png,x")
    data = read_folder(tmp_path)
    assert splits(data) == {"imgs/a.png": None, "imgs/b.png": None, "imgs/d.png": "unlabelled"}
    held_out = "1 images that test.csv names are held out: neither trained on nor judged by"
    assert held_out in data.notes
    judged = read_folder(tmp_path / "test.csv")
    assert labels(judged)["imgs/c.png"] == "x"
    write(tmp_path / "test.csv", "image", "c.png")
    data = read_folder(tmp_path)
    assert splits(data)["imgs/c.png"] == "unlabelled"
    assert "test.csv has no labels" in data.notes[-1]


def test_tables_of_points_beside_each_other(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,eye_x,eye_y", "a.png,1,2")
    write(tmp_path / "val.csv", "image,eye_x,eye_y", "b.png,3,4")
    write(tmp_path / "test.csv", "image,eye_x,eye_y", "c.png,5,6")
    eye = PointColumns.of(["eye"])
    assert splits(read_folder(tmp_path, points=eye)) == {
        "imgs/a.png": "train", "imgs/b.png": "validation", "imgs/d.png": "unlabelled",
    }  # fmt: skip
    write(tmp_path / "test.csv", "image", "c.png")
    assert splits(read_folder(tmp_path, points=eye))["imgs/c.png"] == "unlabelled"


def test_a_column_of_splits(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    rows = ["a.png,x,train", "b.png,y,Train", "c.png,x,val", "d.png,y,test"]
    table = write(tmp_path / "train.csv", "image,label,split", *rows)
    assert splits(read_folder(tmp_path)) == {
        "imgs/a.png": "train", "imgs/b.png": "train", "imgs/c.png": "validation",
    }  # fmt: skip
    other = write(tmp_path / "val.csv", "image,label,split", "d.png,x,late")
    write(table, "image,label,split", *rows[:3])
    assert splits(read_folder(tmp_path))["imgs/d.png"] == "validation"
    other.unlink()
    write(table, "image,label,split", *rows[:2], rows[3])
    assert set(splits(read_folder(tmp_path)).values()) == {None, "unlabelled"}
    write(table, "image,label,split", "a.png,x,fold 1", "b.png,y,fold 2")
    assert splits(read_folder(tmp_path))["imgs/a.png"] is None


@pytest.mark.parametrize("cell", ["", "late", "fold 2"])
def test_a_cell_that_names_no_split_is_a_fault(cell: str, tmp_path: Path) -> None:
    """Or the rows of the test split would be trained on."""
    images(tmp_path / "imgs", *FOUR)
    rows = ["a.png,x,train", "b.png,y,train", f"c.png,x,{cell}", "d.png,y,test"]
    write(tmp_path / "train.csv", "image,label,split", *rows)
    text = refused(tmp_path)
    assert "train.csv has 1 fault:" in text
    assert f"train.csv:4: 'c.png' has {cell!r} in the column 'split': write train, valid" in text


def test_splits_in_the_words_that_people_have_for_them(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    words = ["training", "Train", "valid", "Testing"]
    rows = [f"{name},{name[0] > 'b'},{word}" for name, word in zip(FOUR, words, strict=True)]
    write(tmp_path / "train.csv", "image,label,split", *rows)
    expected = {"imgs/a.png": "train", "imgs/b.png": "train", "imgs/c.png": "validation"}
    assert splits(read_folder(tmp_path)) == expected
    write(tmp_path / "train.csv", "image,label", *(row.rpartition(",")[0] for row in rows[:3]))
    lines = ["a.png,Training", "b.png,train", "c.png,val"]
    table = write(tmp_path / "split.csv", "image,split", *lines)
    assert splits(read_folder(tmp_path)) == expected | {"imgs/d.png": "unlabelled"}
    write(table, "image,split", *lines[:2], "c.png,testing")
    assert "split.csv:4: 'testing' is neither train nor validation" in refused(tmp_path)


def test_a_column_that_is_not_of_splits_is_left_aside_and_said(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    table = write(tmp_path / "train.csv", "image,label,split", "a.png,x,1", "b.png,y,2")
    data = read_folder(tmp_path)
    assert splits(data)["imgs/a.png"] is None
    assert "train.csv: the column 'split' is not used: it names neither train nor" in data.notes[0]
    # A table of test images alone is there to be judged.
    table = table.rename(tmp_path / "late.csv")
    write(table, "image,label,split", "a.png,x,test", "b.png,y,test")
    data = read_folder(table)
    assert labels(data)["imgs/a.png"] == "x"
    assert "late.csv: the column 'split' is not used: all rows are of one" in data.notes[0]


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("is_valid", ("True", "False"), True),
        ("fold", ("0", "1"), True),
        ("Subset", ("train", "val"), True),
        ("camera", ("train", "boat"), False),
    ],
)
def test_a_column_that_may_tell_splits_under_another_name_is_said(
    tmp_path: Path, column: str, cells: tuple[str, str], said: bool
) -> None:
    images(tmp_path / "imgs", *FOUR)
    rows = [f"a.png,x,{cells[0]}", f"b.png,y,{cells[1]}"]
    write(tmp_path / "train.csv", f"image,label,{column}", *rows)
    note = f"train.csv: the column {column!r} may tell splits, and is not used: call it split"
    assert any(note in x for x in read_folder(tmp_path).notes) == said
    write(tmp_path / "split.csv", "image,split", "a.png,train", "b.png,validation")
    assert not any(note in x for x in read_folder(tmp_path).notes)


def test_an_image_is_in_one_split_however_many_rows_it_has(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    for rows in (["a.png,x,train", "a.png,y,test"], ["a.png,y,test", "a.png,x,train"]):
        write(tmp_path / "train.csv", "image,caption,split", *rows, "b.png,z,train")
        with pytest.raises(UserError, match=r"train.csv:3: 'a.png' is in two splits"):
            read_rows(tmp_path, several=True)


def test_what_is_trained_on_is_not_held_out_as_well(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / "test.csv", "image,label", "c.png,x", "b.png,y")
    text = refused(tmp_path)
    assert "test.csv:3: 'b.png' is in two splits: another table names it, too" in text


def test_tables_of_other_names(tmp_path: Path) -> None:
    images(tmp_path / "dogs" / "train", "001.jpg", "002.jpg")
    images(tmp_path / "dogs" / "test", "003.jpg")
    table = write(tmp_path / "dogs" / "labels.csv", "id,breed", "001,pug", "002,husky")
    expected = {"train/001.jpg": "pug", "train/002.jpg": "husky"}
    assert labels(read_folder(tmp_path / "dogs")) == expected
    table.rename(table.with_name("dogs.csv"))
    assert labels(read_folder(tmp_path / "dogs")) == expected


def test_tables_as_image_folders_of_hugging_face_have_them(tmp_path: Path) -> None:
    images(tmp_path / "flat", "1.png", "2.png")
    write(tmp_path / "flat" / "metadata.csv", "file_name,label", "1.png,0", "2.png,1")
    assert labels(read_folder(tmp_path / "flat")) == {"1.png": "0", "2.png": "1"}
    for split in ("train", "validation"):
        images(tmp_path / "split" / split, "1.png", "2.png")
        write(tmp_path / "split" / split / "metadata.csv", "file_name,label", "1.png,0", "2.png,1")
    assert splits(read_folder(tmp_path / "split")) == {
        "train/1.png": "train",
        "train/2.png": "train",
        "validation/1.png": "validation",
        "validation/2.png": "validation",
    }


def test_class_folders_are_read_though_a_table_lies_beside(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.png", "dog/1.png")
    write(tmp_path / "notes.csv", "image,label", "cat/1.png,x", "dog/1.png,y")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog") and "notes.csv" in data.notes[0]


def test_splits_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    images(tmp_path, "train/1.png")
    assert "are splits, not classes" in refused(tmp_path)
    images(tmp_path, "validation/2.png", "Test/3.png")
    text = refused(tmp_path)
    assert "are splits, not classes" in text and "train/<class>/*.jpg" in text


def test_test_folders_beside_a_split_are_held_out(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        images(tmp_path / split, "cat/1.png", "dog/1.png")
    images(tmp_path / "unlabelled", "1.png")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert Counter(splits(data).values()) == {"train": 2, "validation": 2, "unlabelled": 1}
    assert data.notes == ("test/ is held out: neither trained on nor judged by",)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.png", "dog/1.png", "loose.png")
    for name in ("cat/2.heic", "cat/3.HEIC", "dog/2.gif", "dog/3"):
        (tmp_path / name).write_bytes(b"x")
    data = read_folder(tmp_path)
    assert data.notes == (
        f"left out, as these suffixes are not read: 2 .heic, 1 .gif, 1 without suffix in "
        f"{tmp_path.name}/",
        "left out, as they lie in no class folder: 1 images (loose.png, …)",
    )
    (tmp_path / "dog" / "1.png").unlink()
    assert "dog (it holds 1 .gif, 1 without suffix)" in refused(tmp_path)

    table = images(tmp_path / "table" / "imgs", "a.png", "b.png").parent
    (table / "imgs" / "c.npy").write_bytes(b"x")
    write(table / "train.csv", "image,label", "a.png,x", "b.png,y")
    assert "1 .npy in imgs/" in read_folder(table).notes[-1]


def test_images_of_any_suffix_that_a_table_names_are_read_and_known(tmp_path: Path) -> None:
    images(tmp_path / "imgs", "a.gif", "b.png", "c.gif", "deep/d.jfif")
    rows = ["a.gif,x", "b.png,y", "deep\\d.jfif,y"]
    write(tmp_path / "train.csv", "image,label", *rows)
    data = read_folder(tmp_path)
    assert labels(data) == {"imgs/a.gif": "x", "imgs/b.png": "y", "imgs/deep/d.jfif": "y"}
    assert data.notes[-1] == "left out, as these suffixes are not read: 1 .gif in imgs/"
    known = [fingerprint(tmp_path)]
    for name in ("imgs/a.gif", "imgs/deep/d.jfif"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
        known.append(fingerprint(tmp_path))
    assert len(set(known)) == 3
    Image.new("RGB", (8, 8), "red").save(tmp_path / "imgs/c.gif")  # that nothing names
    assert fingerprint(tmp_path) == known[-1]
    write(tmp_path / "test.csv", "image,label", "c.gif,x")
    assert read_folder(tmp_path).notes[-1].startswith("1 images that test.csv names are held out")


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("Train.csv", "Valid.csv"),
        ("train.csv", "valid.CSV"),
        ("labels.csv", "validation.csv"),
        ("Labels.csv", "Val.csv"),
        ("birds.csv", "val.csv"),
    ],
)
def test_tables_of_splits_in_whatever_capitals(train: str, other: str, tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / train, "image,label", "a.png,x", "b.png,y")
    write(tmp_path / other, "image,label", "c.png,x", "d.png,y")
    assert list(splits(read_folder(tmp_path)).values()) == ["train"] * 2 + ["validation"] * 2


@pytest.mark.parametrize("train", ["Train.csv", "labels.csv", "birds.CSV"])
def test_a_test_table_is_held_out_in_whatever_capitals(train: str, tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / train, "image,label", "a.png,x", "b.png,y")
    write(tmp_path / "Test.csv", "image,label", "c.png,x", "d.png,y")
    data = read_folder(tmp_path)
    assert splits(data) == {"imgs/a.png": None, "imgs/b.png": None}
    assert "2 images that Test.csv names are held out" in data.notes[-1]
    assert labels(read_folder(tmp_path / "Test.csv"))["imgs/c.png"] == "x"


@pytest.mark.parametrize(
    "other", ["dev.csv", "Holdout.csv", "validation_labels.csv", "val2.csv", "test_set.csv"]
)
def test_labels_of_a_split_that_is_not_read_are_refused(other: str, tmp_path: Path) -> None:
    """Or its images would be trained on as unlabelled ones."""
    images(tmp_path / "imgs", *FOUR)
    table = write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    left = write(tmp_path / other, "Image,label", "c.png,x")
    for path in (tmp_path, table):
        text = refused(path)
        assert f"{tmp_path / other} looks like the labels of a split" in text
        assert "call it validation.csv or test.csv" in text
    write(left, "image,width", "c.png,3")  # without labels it is no such table
    assert labels(read_folder(tmp_path))["imgs/c.png"] is None


@pytest.mark.parametrize(
    ("other", "lines"),
    [
        ("val.tsv", ["image\tlabel", "c.png\tx"]),
        ("Test.TXT", ["c.png x", "d.png y"]),
        ("labels.txt", ["image,label", "c,x"]),
    ],
)
def test_a_table_of_another_suffix_is_not_passed_over(
    other: str, lines: list[str], tmp_path: Path
) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / other, *lines)
    text = refused(tmp_path)
    assert f"{tmp_path / other} names images, and of a folder only .csv tables are read" in text
    assert f"call it {Path(other).stem}.csv" in text


def test_a_list_of_classes_is_no_table_of_images(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / "labels.txt", "0 x", "1 y")
    assert read_folder(tmp_path).classes == ("x", "y")


def test_a_table_beside_the_one_that_is_named_is_said(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    table = write(tmp_path / "mine.csv", "image,label", "a.png,x", "b.png,y")
    for name in ("val.csv", "val.txt"):
        write(tmp_path / name, "image,label", "c.png,x")
        note = f"{name} is not read, as mine.csv was named: its images count as unlabelled"
        assert note in read_folder(table).notes


def test_a_split_file_in_whatever_capitals(tmp_path: Path) -> None:
    images(tmp_path / "imgs", *FOUR)
    write(tmp_path / "train.csv", "image,label", "a.png,x", "b.png,y")
    write(tmp_path / "Split.csv", "Image,split", "a.png,train", "b.png,val")
    assert splits(read_folder(tmp_path))["imgs/b.png"] == "validation"


@pytest.mark.parametrize(
    "folders",
    [
        ("train2017", "val2017"),
        ("train_images", "test_images"),
        ("Training Set", "Test-Set"),
        ("trainset", "testset"),
        ("images", "masks"),
    ],
)
def test_folders_that_are_splits_or_kinds_of_images_are_no_classes(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    images(tmp_path, f"{folders[0]}/a.png", f"{folders[1]}/b.png")
    assert f"{folders[0]}/" in refused(tmp_path) and "not classes" in refused(tmp_path)
    table = write(tmp_path / "train.tsv", "image\tlabel", "a.png\tx")
    assert "call it train.csv" in refused(tmp_path)
    table.unlink()
    write(tmp_path / "labels.csv", "image,label", f"{folders[0]}/a.png,x", f"{folders[1]}/b.png,y")
    assert set(labels(read_folder(tmp_path)).values()) >= {"x", "y"}


@pytest.mark.parametrize("folders", [("mask", "no_mask"), ("masks", "cat"), ("images", "drawings")])
def test_what_is_plainly_classes_is_read_as_such(folders: tuple[str, str], tmp_path: Path) -> None:
    images(tmp_path, *(f"{name}/{x}" for name in folders for x in FOUR))
    write(tmp_path / "labels.txt", "0 one", "1 two")
    data = read_folder(tmp_path)
    assert set(data.classes) == set(folders) and data.notes == ()
    write(tmp_path / "train.txt", *(f"{folders[0]}/{x} 0" for x in FOUR))
    (note,) = read_folder(tmp_path).notes
    assert note == "not read, as the class folders say what the images are: train.txt"


def test_bars_may_part_columns(tmp_path: Path) -> None:
    images(tmp_path, *FOUR)
    write(tmp_path / "train.csv", "image|label", "a.png|one, two", "b.png|y")
    assert labels(read_folder(tmp_path)) == {"a.png": "one, two", "b.png": "y"}


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    numbers = tuple(str(number) for number in range(12))
    images(tmp_path, *(f"{number}/a.png" for number in numbers))
    assert read_folder(tmp_path).classes == numbers
    table = write(tmp_path / "t.csv", "image,label", *(f"{n}/a.png,{n}" for n in numbers[::-1]))
    data = read_folder(table)
    assert data.classes == numbers
    assert data.labels.tolist() == list(range(11, -1, -1))
    (tmp_path / "11").rename(tmp_path / "eleven")
    assert read_folder(tmp_path).classes[:3] == ("0", "1", "10")


def test_the_order_of_classes_does_not_change_what_is_drawn(tmp_path: Path) -> None:
    names = [f"{number}/{i}.png" for number in range(11) for i in range(5)]
    images(tmp_path / "numbers", *names)
    images(tmp_path / "words", *(f"c{name}" for name in names))
    drawn = [draw_split(read_folder(tmp_path / x), 0.3, 1) for x in ("numbers", "words")]
    assert list(splits(drawn[0]).values()) == list(splits(drawn[1]).values())


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    """As archives from other systems leave them."""
    name = b"caf\xe9.png"  # Latin-1
    images(tmp_path, *(f"{label}/{i}.png" for label in "xy" for i in range(4)))
    os.rename(
        os.fsencode(tmp_path / "x" / "0.png"), os.path.join(os.fsencode(tmp_path), b"x", name)
    )
    fingerprint(tmp_path)
    drawn = draw_split(read_folder(tmp_path), 0.3, 0)
    drawn.save(tmp_path / "stored")
    assert Dataset.load(tmp_path / "stored", tmp_path) == drawn
    assert b"x/" + name in (tmp_path / "stored" / "split.csv").read_bytes()
    progress = Progress(Console(quiet=True), tmp_path / "run.log")
    progress.note(os.fsdecode(name))
    assert "caf\\udce9.png" in (tmp_path / "run.log").read_text("utf-8")


cells = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["a.png", "b", "label", "image", "id", "split", "train", "1", "0", '"', "\x00", "../x", "\n"]
)


@given(
    st.lists(st.lists(cells, max_size=4), max_size=6),
    st.sampled_from([",", ";", "\t", " ", "|"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
    st.booleans(),
    st.sampled_from(["val.csv", "test.csv", "split.csv", "boxes.csv"]),
)
def test_a_table_is_read_or_refused(
    rows: list[list[str]], separator: str, quoting: int, encoding: str, usual: bool, other: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = images(Path(folder), "imgs/a.png", "imgs/b.jpg")
        head = [["image", "label"], ["a.png", "x"]] if usual else []
        for path, lines in ((root / "train.csv", [*head, *rows]), (root / other, rows)):
            with path.open("w", encoding=encoding, newline="") as file:
                csv.writer(file, delimiter=separator, quoting=quoting).writerows(lines)  # type: ignore[arg-type]
        try:
            data = read_folder(root)
        except UserError as error:
            assert str(error)
        else:
            assert {p.path for p in data.images} <= {"imgs/a.png", "imgs/b.jpg"}


@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_table_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        try:
            table = read_csv(path)
        except UserError:
            return
        assert all(list(row) == list(dict.fromkeys(table.header)) for row in table.rows)
