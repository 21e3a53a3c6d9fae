"""The animals bench is built from (tiny, made-up) public data sets as its README says, and departures are named."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import voc_palette
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError

ANIMALS = Path(__file__).parents[2] / "benchmarks" / "animals"
MODULES = ("build", "verify", "composition", "originals", "pictures", "u2net", "fifth")
Load = Callable[[str], ModuleType]
ANIMAL_CLASSES = ("cat", "cow", "dog", "horse", "sheep")

TRAIN = {"2007_000001": ((500, 375), "cat person"), "2008_000002": ((100, 50), "cow")}
DEV = {"2009_000003": ((400, 400), "dog"), "2009_000004": ((300, 500), "sheep"), "2009_000005": ((256, 100), "horse")}
SOURCE = {"cat/ca1": "jpeg", "cow/co1": "jpeg", "dog/do1": "jpg", "horse/ho1": "jpg", "sheep/sh1": "png"}
FACTS = """name,width,height,labels,mask
2007_000001,256,192,cat person,
2008_000002,256,128,cow,
2009_000003,256,256,dog,12 255
2009_000004,154,256,sheep,17
2009_000005,256,100,horse,13 15
cat/ca1,256,192,cat,
cow/co1,256,192,cow,
dog/do1,256,192,dog,
horse/ho1,256,192,horse,
sheep/sh1,150,100,sheep,
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """A module of the bench's folder, as when it is run there; gone again afterwards."""
    monkeypatch.syspath_prepend(ANIMALS)
    kept = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def photograph(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).save(path)


def ids_of(size: tuple[int, int], *ids: int) -> np.ndarray:
    """Background above, the ids in stripes below."""
    mask = np.zeros(size[::-1], np.uint8)
    lower = mask[size[1] // 2 :]
    for i, value in enumerate(ids):
        lower[:, i * size[0] // len(ids) : (i + 1) * size[0] // len(ids)] = value
    return mask


def save_mask(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids)
    picture.putpalette(voc_palette().ravel().tolist())
    picture.save(path)


def save_mat(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Boundaries": np.zeros((1, 1)), "Segmentation": ids, "CategoriesPresent": np.unique(ids)}})


MASKS = {"2009_000003": (12, 255), "2009_000004": (17,), "2009_000005": (13, 15)}


@pytest.fixture
def world(tmp_path: Path) -> SimpleNamespace:
    """VOC 2012, SBD and Animal-Pose with a handful of pictures, and the lists of a bench of them."""
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for seed, (name, (size, labels)) in enumerate({**TRAIN, **DEV}.items()):
        photograph(voc / "JPEGImages" / f"{name}.jpg", size, seed)
        objects = "".join(
            f"<object><name>{label}</name><difficult>{int(label == 'person')}</difficult></object>"
            for label in labels.split()
        )
        (voc / "Annotations").mkdir(exist_ok=True)
        (voc / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    save_mask(voc / "SegmentationClass" / "2009_000003.png", ids_of((400, 400), *MASKS["2009_000003"]))
    sbd = tmp_path / "benchmark_RELEASE" / "dataset"
    save_mat(sbd / "cls" / "2009_000003.mat", ids_of((400, 400), 1))  # VOC's own comes first
    save_mat(sbd / "cls" / "2009_000004.mat", ids_of((300, 500), *MASKS["2009_000004"]))
    save_mask(sbd / "SegmentationClassAug" / "2009_000005.png", ids_of((256, 100), *MASKS["2009_000005"]))
    pose = tmp_path / "animalpose_image_part2"
    for seed, (name, ending) in enumerate(SOURCE.items()):
        photograph(pose / f"{name}.{ending}", (150, 100) if name == "sheep/sh1" else (400, 300), seed)
    lists = tmp_path / "lists"
    lists.mkdir()
    for file, names in (("train", TRAIN), ("dev", DEV), ("source", SOURCE)):
        (lists / f"{file}.txt").write_text("".join(f"{name}\n" for name in names))
    (lists / "facts.csv").write_text(FACTS)
    return SimpleNamespace(voc=voc, sbd=sbd, pose=pose, lists=lists, out=tmp_path / "bench" / "animals")


def options(world: SimpleNamespace, *more: str) -> list[str]:
    given = ["--voc", str(world.voc.parent), "--sbd", str(world.sbd), "--animal-pose", str(world.pose)]
    return [*given, "--output", str(world.out), "--lists", str(world.lists), *more]


@pytest.fixture
def built(load: Load, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> SimpleNamespace:
    assert load("build").main(options(world)) == 0
    world.said = capsys.readouterr()
    return world


def test_build(built: SimpleNamespace) -> None:
    root = built.out / "VOC2012"
    sets = root / "ImageSets"
    assert (sets / "Main" / "train.txt").read_text() == (sets / "Segmentation" / "train.txt").read_text()
    assert (sets / "Segmentation" / "dev.txt").read_text() == "2009_000003\n2009_000004\n2009_000005\n"
    assert (sets / "Main" / "cat_train.txt").read_text() == "2007_000001  1\n2008_000002 -1\n"
    # an object marked difficult is there nevertheless
    assert (sets / "Main" / "person_train.txt").read_text() == "2007_000001  1\n2008_000002 -1\n"
    assert (sets / "Main" / "sheep_dev.txt").read_text() == "2009_000003 -1\n2009_000004  1\n2009_000005 -1\n"
    assert len(list((sets / "Main").iterdir())) == 2 * 21
    assert not (built.out / "source_saliency").exists()
    assert "source_saliency" in built.said.out and "those of the bench" in built.said.out
    assert "target photographs 5/5" in built.said.err and "source photographs 5/5" in built.said.err
    assert [p.name for p in built.out.parent.iterdir()] == ["animals"]  # no temporary folder stays


def test_masks_are_nearest_neighbours(built: SimpleNamespace) -> None:
    for name, ids in MASKS.items():
        (width, height), _ = DEV[name]
        original = ids_of((width, height), *ids)
        with Image.open(built.out / "VOC2012" / "SegmentationClass" / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == voc_palette().ravel().tolist()
            got = np.asarray(mask)
        for y in range(0, got.shape[0], 7):
            for x in range(0, got.shape[1], 5):
                row, column = int((y + 0.5) * height / got.shape[0]), int((x + 0.5) * width / got.shape[1])
                assert got[y, x] == original[row, column]
    assert len(list((built.out / "VOC2012" / "SegmentationClass").iterdir())) == 3


def test_photographs(built: SimpleNamespace) -> None:
    originals = {f"VOC2012/JPEGImages/{name}": built.voc / "JPEGImages" / f"{name}.jpg" for name in TRAIN | DEV}
    originals |= {f"source/{name}": built.pose / f"{name}.{ending}" for name, ending in SOURCE.items()}
    for name, path in originals.items():
        with Image.open(built.out / f"{name}.jpg") as photo, Image.open(path) as original:
            # the first entries of the JPEG standard's luminance table at quality 88 (24 %)
            assert photo.quantization[0][:6] == [4, 3, 2, 4, 6, 10]
            wanted = np.asarray(original.convert("RGB").resize(photo.size, Image.Resampling.LANCZOS)).astype(float)
            assert np.abs(np.asarray(photo) - wanted).mean() < 3


def test_sizes(load: Load, tmp_path: Path) -> None:
    pictures = load("pictures")
    photograph(tmp_path / "a.png", (640, 423))
    # by way of 320×212; at once it would be 256×169
    assert pictures.size_of(pictures.source_photograph(pictures.working_copy(tmp_path / "a.png"))) == (256, 170)
    assert pictures.size_of(pictures.target_photograph(tmp_path / "a.png")) == (256, 169)
    photograph(tmp_path / "b.png", (250, 176))
    assert pictures.size_of(pictures.target_photograph(tmp_path / "b.png")) == (256, 180)
    assert pictures.size_of(pictures.source_photograph(pictures.working_copy(tmp_path / "b.png"))) == (250, 176)


def test_network_input(load: Load) -> None:
    pixels = np.random.default_rng(0).integers(0, 201, (320, 320, 3), dtype=np.uint8)
    got = load("u2net").network_input(Image.fromarray(pixels))
    assert got.shape == (1, 3, 320, 320) and got.dtype == np.float32
    for channel, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        for y, x in ((0, 0), (17, 300), (319, 5)):
            assert got[0, channel, y, x] == pytest.approx(
                (pixels[y, x, channel] / pixels.max() - mean) / deviation, abs=1e-5
            )


def test_half_map_is_stretched_and_averaged(load: Load) -> None:
    scores = np.random.default_rng(0).uniform(0.2, 0.7, (320, 320)).astype(np.float32)
    scores[0, 0], scores[0, 1] = 0.2, 0.7
    got = np.asarray(load("u2net").half_map(scores, (320, 320), (320, 320)))
    levels = np.rint((scores - scores.min()) / (scores.max() - scores.min()) * 255)
    wanted = levels.reshape(160, 2, 160, 2).mean(axis=(1, 3))
    assert got.shape == (160, 160) and np.abs(got - wanted).max() <= 1  # rounded after each direction
    assert load("u2net").half_map(scores, (320, 213), (255, 171)).size == (127, 85)


class _Session:
    """In the network's place: red, or the same value everywhere."""

    def __init__(self, path: str, *_: object, **__: object) -> None:
        self.constant = Path(path).read_text() == "constant"

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="in")]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        red = inputs["in"][:, :1]
        return [red * 0 + 0.5 if self.constant else red]


def test_a_fifth_kept_apart(
    load: Load, built: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = built.out / "VOC2012", tmp_path / "fifth"
    names = [f"2010_{place:06}" for place in range(12)]
    for label in VOC_CLASSES:
        marks = {name: 1 if place % 3 == 0 and label == "cat" else -1 for place, name in enumerate(names)}
        lines = "".join(f"{name} {mark:2}\n" for name, mark in marks.items())
        (bench / "ImageSets" / "Main" / f"{label}_train.txt").write_text(lines)
    (bench / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))
    fifth = load("fifth")
    assert fifth.main([str(bench), "--output", str(out)]) == 0
    main = out / "ImageSets" / "Main"
    apart = [names[0], names[5], names[10]]
    assert (main / "fifth.txt").read_text().split() == apart
    assert (main / "four.txt").read_text().split() == [name for name in names if name not in apart]
    assert (main / "cat_fifth.txt").read_text().split() == [names[0], "1", names[5], "-1", names[10], "-1"]
    assert (main / "cat_four.txt").read_text().count(" 1\n") == 3
    dev = open_dataset(f"voc:{out}", split="dev", classes=ANIMAL_CLASSES, masks=True)
    assert dev[0].mask is not None and list(dev.names) == list(DEV)
    assert fifth.main([str(bench), "--output", str(out)]) == 2
    assert "expected a new folder" in capsys.readouterr().err
    assert fifth.main([str(bench.parent), "--output", str(tmp_path / "other")]) == 2
    assert "with a folder JPEGImages, got none" in capsys.readouterr().err
    (bench / "ImageSets" / "Main" / "dog_train.txt").write_text(f"{names[1]} -1\n")
    assert fifth.main([str(bench), "--output", str(tmp_path / "other")]) == 2
    assert "in their order: " in capsys.readouterr().err and not (tmp_path / "other").exists()


@pytest.fixture
def onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    session_options = SimpleNamespace(add_session_config_entry=lambda *_: None)
    module = SimpleNamespace(InferenceSession=_Session, SessionOptions=lambda: session_options)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)


@pytest.mark.usefixtures("onnxruntime")
def test_build_with_saliency(load: Load, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    model = world.out.parent.parent / "model.onnx"
    model.write_text("red")
    assert load("build").main(options(world, "--saliency-model", str(model))) == 0
    assert "no saliency maps" not in capsys.readouterr().out
    for name in SOURCE:
        with Image.open(world.out / "source_saliency" / f"{name}.png") as saliency:
            assert saliency.mode == "L"
            assert saliency.size == ((75, 50) if name == "sheep/sh1" else (128, 96))
            got = np.asarray(saliency).astype(float)
        with Image.open(world.out / "source" / f"{name}.jpg") as photo:
            red = np.asarray(photo.resize(saliency.size, Image.Resampling.BOX))[:, :, 0].astype(float)
        assert np.corrcoef(got.ravel(), red.ravel())[0, 1] > 0.99
    (world.out / "source_saliency" / "cat" / "ca1.png").unlink()
    assert load("verify").main([str(world.out), "--lists", str(world.lists)]) == 1
    assert "expected 5 pictures, 1 are missing, first cat/ca1.png" in capsys.readouterr().out


@pytest.mark.usefixtures("onnxruntime")
def test_constant_saliency_leaves_nothing(
    load: Load, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    model = world.out.parent.parent / "model.onnx"
    model.write_text("constant")
    assert load("build").main(options(world, "--saliency-model", str(model))) == 2
    error = capsys.readouterr().err
    assert "expected a saliency map that varies, got 0.5 everywhere" in error and "ca1.jpeg" in error
    assert not list(world.out.parent.iterdir())


@pytest.mark.usefixtures("onnxruntime")
def test_without_model_or_runtime(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an ONNX model, found no file; .*model.onnx"):
        load("u2net").Detector(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'it is not installed; pip install "attnbn\[saliency\]"'):
        load("u2net").Detector(tmp_path / "model.onnx")


# ---- what can be wrong with the originals


def breaking(world: SimpleNamespace, what: str) -> None:
    photo, mat = world.voc / "JPEGImages" / "2008_000002.jpg", world.sbd / "cls" / "2009_000004.mat"
    if what == "photograph":
        photo.unlink()
    elif what == "damaged photograph":
        photo.write_bytes(photo.read_bytes()[:300])
    elif what == "annotation":
        (world.voc / "Annotations" / "2008_000002.xml").unlink()
    elif what == "strange class":
        xml = world.voc / "Annotations" / "2008_000002.xml"
        xml.write_text(xml.read_text().replace("cow", "ox"))
    elif what == "mask":
        mat.unlink()
    elif what == "damaged mask":
        mat.write_bytes(mat.read_bytes()[:200])
    elif what == "other mask":
        savemat(mat, {"GTinst": 1})
    elif what == "mask's size":
        save_mat(mat, ids_of((500, 300), 17))
    elif what == "mask's ids":
        save_mat(mat, ids_of((300, 500), 21))
    elif what == "source":
        (world.pose / "dog" / "do1.jpg").unlink()
    elif what == "source twice":
        photograph(world.pose / "other" / "do1.png", (9, 9))
    elif what == "no facts":
        (world.lists / "facts.csv").write_text(FACTS.replace("cow/co1", "cow/co2"))
    elif what == "name twice":
        (world.lists / "dev.txt").write_text("2007_000001\n")
    elif what == "there already":
        world.out.mkdir(parents=True)
    else:  # other columns
        (world.lists / "facts.csv").write_text("name,size\na,1\n")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("photograph", "expected 5 of VOC 2012's photographs, 1 are missing, first '2008_000002'; give the full set"),
        ("damaged photograph", "damaged or cut-off file"),
        ("annotation", "expected 5 of VOC 2012's Annotations, 1 are missing, first '2008_000002'"),
        ("strange class", "expected VOC's twenty classes, got 'ox'"),
        ("mask", "expected 3 of VOC's and SBD's masks, 1 are missing, first '2009_000004'; give SBD's masks"),
        ("damaged mask", "expected SBD's GTcls.Segmentation, got a damaged or other file"),
        ("other mask", "expected SBD's GTcls.Segmentation, got a damaged or other file"),
        ("mask's size", "expected a mask of 500×300 like its image, got 300×500"),
        ("mask's ids", "expected mask ids 0 to 20, got 21"),
        ("source", "expected 5 of Animal-Pose's photographs, 1 are missing, first 'dog/do1'; give the folder"),
        ("source twice", "expected one photograph 'do1', got dog/do1.jpg and other/do1.png; name the folder"),
        ("no facts", "expected size and labels of every image, found none of 'cow/co1'"),
        ("name twice", "expected each image once, got '2007_000001' twice"),
        ("there already", "expected a new folder to write, found one in place; remove it or choose another"),
        ("other columns", "expected rows name,width,height,labels,mask, got others"),
    ],
)
def test_errors(
    load: Load, world: SimpleNamespace, capsys: pytest.CaptureFixture[str], what: str, message: str
) -> None:
    breaking(world, what)
    assert load("build").main(options(world)) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and str(world.voc.parent.parent) in error
    assert not set(world.out.parent.glob("*")) - {world.out}  # nothing half-built


@pytest.mark.parametrize(
    ("option", "place"), [("--sbd", "SBD's folder"), ("--animal-pose", "Animal-Pose's folder"), ("--voc", "JPEGImages")]
)
def test_folder_that_is_not_there(
    load: Load, world: SimpleNamespace, capsys: pytest.CaptureFixture[str], option: str, place: str
) -> None:
    assert load("build").main([*options(world), option, str(world.out.parent / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert place in error and "nowhere" in error


# ---- what can be wrong with a bench


NINE = [
    "expected a list of 3 images, found no file: ",
    "expected '2008_000002 1', got '2008_000002 -1': ",
    "expected 3 lines, got 1: ",
    "expected 256×128 pixels (width × height), got 256×129: ",
    "expected 5 pictures, 1 are missing, first sheep/sh1.jpg: ",
    "expected 5 pictures, got 1 others, first sheep/sh2.jpg: ",
    "got an empty file (0 bytes)",
    "expected the ids 17 in the mask, got 10: ",
    "got 99; correct the mask",
]


def test_verify_names_each_difference(load: Load, built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    root, verify = built.out / "VOC2012", load("verify")
    composition = load("composition").read_composition(built.lists)
    assert list(verify.differences(built.out, composition)) == []
    (root / "ImageSets" / "Main" / "cat_dev.txt").unlink()
    cow = root / "ImageSets" / "Main" / "cow_train.txt"
    cow.write_text(cow.read_text().replace(" 1", "-1"))
    (root / "ImageSets" / "Segmentation" / "dev.txt").write_text("2009_000003\n")
    photograph(root / "JPEGImages" / "2008_000002.jpg", (256, 129))
    (built.out / "source" / "sheep" / "sh1.jpg").rename(built.out / "source" / "sheep" / "sh2.jpg")
    (built.out / "source" / "cat" / "ca1.jpg").write_bytes(b"")
    save_mask(root / "SegmentationClass" / "2009_000004.png", ids_of((154, 256), 10))
    save_mask(root / "SegmentationClass" / "2009_000005.png", ids_of((256, 100), 13, 15, 99))
    lines = list(verify.differences(built.out, composition))
    assert len(lines) == len(NINE) and all(sum(part in line for line in lines) == 1 for part in NINE)
    capsys.readouterr()
    assert verify.main([str(built.out), "--lists", str(built.lists)]) == 1
    assert "not the bench, 9 differences" in capsys.readouterr().out


def test_verify_prints_the_composition(load: Load, built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("verify").main([str(built.out), "--lists", str(built.lists)]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["cat"] == ["1", "0", "1", "0.00%"]
    # the lower half of 154×256, beside 256×256 and 256×100
    assert rows["sheep"] == ["0", "1", "1", f"{154 * 128 / (256 * 256 + 154 * 256 + 256 * 100):.2%}"]
    assert rows["all"] == ["2", "3", "5"]
    assert load("verify").main([str(built.out / "nowhere")]) == 2
    assert "expected the bench's folder, found none" in capsys.readouterr().err


def test_own_lists_and_readme(load: Load) -> None:
    composition = load("composition").read_composition()
    train, dev, source = composition.splits["train"], composition.splits["dev"], composition.source
    assert (len(train), len(dev), len(source)) == (1356, 250, 1000)
    assert list(train) == sorted(train) and list(dev) == sorted(dev) and not set(train) & set(dev)
    assert set(composition.facts) == {*train, *dev, *source}
    assert all(composition.facts[name].mask for name in dev)
    assert all(max(composition.facts[name].size) == 256 for name in train + dev)
    counts = [Counter(label for n in part for label in composition.facts[n].labels) for part in (train, dev, source)]
    animals = load("composition").ANIMALS
    assert all(composition.facts[name].labels & set(animals) for name in train + dev)
    readme = (ANIMALS / "README.md").read_text()
    for label in animals:
        assert f"| {label} | " + " | ".join(str(count[label]) for count in counts) in readme
