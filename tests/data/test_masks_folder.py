"""A folder of photographs beside a folder of masks: MSRC v2, CamVid, and one's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnbn.data.colour_table import msrc_table, parse_table
from attnbn.data.images import voc_palette
from attnbn.data.open import has_masks, open_dataset, place_of
from attnbn.io.errors import InputError

COW, GRASS, HORSE, SKY, VOID = (0, 0, 128), (0, 128, 0), (128, 0, 128), (128, 128, 128), (0, 0, 0)


def paint(path: Path, *bands: tuple[int, int, int], height: int = 12, width: int = 16) -> Path:
    """A mask of horizontal bands of equal height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.repeat(np.array(bands, np.uint8), height // len(bands), axis=0)
    Image.fromarray(np.repeat(rows[:, None], width, axis=1)).save(path)
    return path


@pytest.fixture
def msrc(tmp_path: Path, photo) -> Path:
    root = tmp_path / "MSRC_ObjCategImageDatabase_v2"
    for name, bands in {
        "5_1_s": (GRASS, COW),
        "5_2_s": (SKY, VOID, GRASS),
        "1_10_s": (HORSE, GRASS),
        "9_9_s": (VOID,),
    }.items():
        photo(root / "Images" / f"{name}.bmp")
        paint(root / "GroundTruth" / f"{name}_GT.bmp", *bands)
    (root / "Images" / "Thumbs.db").write_bytes(b"")
    (root / "index.htm").write_text("")
    return root


@pytest.mark.parametrize("above", [0, 1])
def test_msrc_is_read_as_it_is_distributed(msrc: Path, above: int) -> None:
    path = [msrc, *msrc.parents][above]
    dataset = open_dataset(f"masks:{path}", split="train", masks=True)
    assert len(dataset.classes) == 21 and dataset.classes[:4] == ("building", "grass", "tree", "cow")
    assert dataset.names == ["1_10_s", "5_1_s", "5_2_s"]
    assert dataset.notes == [
        "MSRC v2's own colours: 21 classes; horse and mountain count as void, as its authors advise",
        "labels from the masks: a class is there with one pixel",
        "left out 1 of 4 images with none of the classes",
    ]
    assert dataset.labels is not None
    assert [[dataset.classes[i] for i in row.nonzero()[:, 0]] for row in dataset.labels] == [
        ["grass"], ["grass", "cow"], ["grass", "sky"]
    ]  # fmt: skip
    shown = [dataset[i].mask for i in range(3)]
    assert [sorted(set(mask.flatten().tolist())) for mask in shown if mask is not None] == [
        [2, 255],
        [2, 4],
        [2, 6, 255],
    ]
    assert shown[1] is not None and shown[1][0, 0] == 2 and shown[1][-1, 0] == 4 and shown[1].shape == (12, 16)
    assert has_masks(f"masks:{path}") and place_of(f"masks:{path}") == ("masks", str(msrc))


def test_msrc_colours_are_vocs_palette_without_two() -> None:
    table = msrc_table()
    assert len(table.colours) == 24 and table.ids.count(255) == 3 and len(set(table.ids)) == 22
    # the palette of the data set is VOC's colour map; its classes 19 and 20 were given up before it was published
    assert list(table.colours) == [tuple(voc_palette()[i].tolist()) for i in range(26) if i not in (19, 20)]
    named = dict(
        zip(table.classes, (c for c, i in zip(table.colours, table.ids, strict=True) if i != 255), strict=True)
    )
    assert named["boat"] == (192, 64, 0) and named["body"] == (64, 64, 0) and named["dog"] == (128, 192, 128)


def test_a_subset_of_the_classes(msrc: Path) -> None:
    dataset = open_dataset(f"masks:{msrc}", split="all", classes="cattle", class_map={"cow": "cattle"}, masks=True)
    assert dataset.names == ["5_1_s"] and dataset[0].mask is not None
    assert sorted(set(dataset[0].mask.flatten().tolist())) == [0, 1]
    unlabelled = open_dataset(f"masks:{msrc}", split="all", classes="cow", labels=False)
    assert len(unlabelled) == 4 and unlabelled.labels is None and not unlabelled.has_masks
    assert unlabelled.notes[-1] == "labels are not read, so images with none of the classes stay in"


def test_without_labels_no_mask_is_opened(msrc: Path) -> None:
    (msrc / "GroundTruth" / "5_1_s_GT.bmp").write_bytes(b"damaged")
    assert len(open_dataset(f"masks:{msrc}", split="all", labels=False)) == 4
    with pytest.raises(InputError, match=r"5_1_s_GT\.bmp$"):
        open_dataset(f"masks:{msrc}", split="all")


def test_lists_of_splits(msrc: Path) -> None:
    folder = msrc / "TextonBoostSplits"
    folder.mkdir()
    (folder / "Train.txt").write_text("5_1_s.bmp\r\n1_10_s.bmp\r\n")
    (folder / "Validation.txt").write_text("5_2_s.bmp\n")
    (folder / "readme.txt").write_text("about these files\n")
    assert open_dataset(f"masks:{msrc}", split="train").names == ["5_1_s", "1_10_s"]
    assert open_dataset(f"masks:{msrc}", split="val", masks=True).names == ["5_2_s"]
    assert len(open_dataset(f"masks:{msrc}", split="all")) == 3
    with pytest.raises(InputError, match=r"no split 'test'; splits here: train, validation, all: "):
        open_dataset(f"masks:{msrc}", split="test")
    (folder / "Test.txt").write_text("5_2_s.bmp\n7_7_s.bmp\n")
    with pytest.raises(InputError, match=r"every name of Test\.txt, found none for '7_7_s'; .*Test\.txt$"):
        open_dataset(f"masks:{msrc}", split="test")


def test_without_lists_all_images_stand_for_any_split(msrc: Path) -> None:
    assert open_dataset(f"masks:{msrc}", split="dev").notes[1] == "no lists of splits, so all images stand for 'dev'"


def test_camvid(tmp_path: Path, photo) -> None:
    root = tmp_path / "camvid"
    photo(root / "701_StillsRaw_full" / "0001TP_006690.png")
    paint(root / "LabeledApproved_full" / "0001TP_006690_L.png", (64, 0, 128), (128, 64, 128), (0, 0, 0))
    (root / "label_colors.txt").write_text("64 0 128\tCar\n0 0 0\tVoid\n128 64 128\t\tRoad\n192 128 64\tSmall child\n")
    dataset = open_dataset(f"masks:{root}", split="train", masks=True)
    assert dataset.classes == ("Car", "Road", "Small child")
    assert dataset.labels is not None and dataset.labels.tolist() == [[1, 1, 0]]
    assert dataset[0].mask is not None and sorted(set(dataset[0].mask.flatten().tolist())) == [1, 2, 255]


def test_ids_with_a_list_of_classes(tmp_path: Path, photo, palette_png) -> None:
    (tmp_path / "classes.txt").write_text("leaf\nstem\n")
    ids = np.zeros((12, 16))
    ids[:4], ids[4:6] = 2, 255
    for name, save in (("a", palette_png), ("b", lambda path, x: Image.fromarray(x.astype(np.uint8)).save(path))):
        photo(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        save(tmp_path / "masks" / f"{name}.png", ids)
    dataset = open_dataset(f"masks:{tmp_path}", split="all", masks=True)
    assert dataset.classes == ("leaf", "stem") and dataset.labels is not None
    assert dataset.labels.tolist() == [[0, 1], [0, 1]]
    np.testing.assert_array_equal(dataset[0].mask, ids)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[1].mask, ids)
    Image.fromarray(np.full((12, 16), 3, np.uint8)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match=r"mask ids 0 to 2 .*got 3; .*a\.png$"):
        open_dataset(f"masks:{tmp_path}", split="all")


def test_masks_in_colours_travel_to_workers(msrc: Path) -> None:
    dataset = open_dataset(f"masks:{msrc}", split="all", masks=True)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[1].mask, dataset[1].mask)


def test_stray_colours_are_void_up_to_one_per_cent(msrc: Path) -> None:
    file = msrc / "GroundTruth" / "5_1_s_GT.bmp"
    pixels = np.array(Image.open(file))
    pixels[0, 0] = (100, 2, 3)  # 1 of 192
    Image.fromarray(pixels).save(file)
    mask = open_dataset(f"masks:{msrc}", split="all", masks=True)[1].mask
    assert mask is not None and mask[0, 0] == 255 and mask[0, 1] == 2
    pixels[0, :3] = (100, 2, 3)
    Image.fromarray(pixels).save(file)
    with pytest.raises(
        InputError, match=r"the colours of MSRC v2, got 2 % of its pixels in others, .*\(100, 2, 3\); .*5_1_s_GT"
    ):
        open_dataset(f"masks:{msrc}", split="all")


def test_palette_masks_are_read_by_their_colours(msrc: Path) -> None:
    (msrc / "GroundTruth" / "5_1_s_GT.bmp").unlink()
    picture = Image.fromarray(np.repeat(np.arange(12, dtype=np.uint8)[:, None] // 6, 16, axis=1))
    picture.putpalette([*GRASS, *COW])
    picture.save(msrc / "GroundTruth" / "5_1_s_GT.png")
    mask = open_dataset(f"masks:{msrc}", split="all", masks=True)[1].mask
    assert mask is not None and mask[0, 0] == 2 and mask[-1, 0] == 4


def test_bad_layouts(msrc: Path, tmp_path: Path, photo) -> None:
    photo(tmp_path / "other" / "cat" / "a.jpg")
    with pytest.raises(
        InputError, match=r"a folder images and a folder masks \(or Images .*found cat; name the two so"
    ):
        open_dataset(f"masks:{tmp_path}/other", split="all")
    (msrc / "labels").mkdir()
    with pytest.raises(InputError, match=r"got GroundTruth, Images, labels; move the others"):
        open_dataset(f"masks:{msrc}", split="all")
    (msrc / "labels").rmdir()
    (msrc / "GroundTruth" / "5_2_s_GT.bmp").unlink()
    with pytest.raises(
        InputError, match=r"a mask for every photograph, found none for '5_2_s'; add 5_2_s\.png .*GroundTruth$"
    ):
        open_dataset(f"masks:{msrc}", split="all")
    paint(msrc / "GroundTruth" / "5_2_s_GT.bmp", GRASS, width=15)
    with pytest.raises(InputError, match=r"a mask of 12×16 like its image, got 12×15; .*5_2_s_GT\.bmp$"):
        dataset = open_dataset(f"masks:{msrc}", split="all", masks=True)
        dataset[2]
    for name in ("classes.txt", "label_colors.txt"):
        (msrc / name).write_text("a\n")
    with pytest.raises(InputError, match=r"one table of classes, got classes\.txt and label_colors\.txt; remove one"):
        open_dataset(f"masks:{msrc}", split="all")


def test_no_table(tmp_path: Path, photo) -> None:
    photo(tmp_path / "images" / "a.png")
    photo(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match=r"a table of classes, found none; write classes\.txt .*or label_colors\.txt"):
        open_dataset(f"masks:{tmp_path}", split="all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 cat", "red, green, blue .* got '1 2 cat': t, line 1"),
        ("0 0 0 void\n1 2 256 cat", "got '1 2 256 cat': t, line 2"),
        ("1 2 3 cat\n1 2 3 dog", r"each colour once, got \(1, 2, 3\) again: t, line 2"),
        ("0 0 0 Void\n1 1 1 background", "1 to 254 class names, got 0: t"),
    ],
)
def test_bad_tables(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_table(text.splitlines(), "t")


def test_table_of_several_colours_and_background() -> None:
    table = parse_table(["# mine", "", "1 1 1 cat", "2 2 2 cat", "3 3 3 background", "4,4,4 wild dog"], "t")
    assert table.classes == ("cat", "wild dog") and table.ids == (1, 1, 0, 2)
