"""A detector from an ONNX file: the right numbers in and out, nothing stretched, and one clear line for all that is wrong."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.io.errors import InputError, RunError
from attnbn.saliency import onnx
from attnbn.saliency.onnx import DetectorSettings, OnnxDetector, network_input, resized
from tiny_onnx import HALF, write_model

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 201, (24, 36, 3), dtype=np.uint8)
PHOTO = torch.from_numpy(PIXELS).permute(2, 0, 1)
WEIGHTS, BIAS = (0.5, -1.0, 2.0), -0.3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx", weights=[WEIGHTS], biases=[BIAS])


def seen(
    mean: tuple[float, ...], std: tuple[float, ...], white: float | None, size: tuple[int, int] = (16, 16)
) -> np.ndarray:
    """What the network sees, ``h×w×3``, written out in float64."""
    small = np.asarray(Image.fromarray(PIXELS).resize(size[::-1], Image.Resampling.LANCZOS)).astype(np.float64)
    return (small / (white or small.max()) - np.array(mean)) / np.array(std)


def answer(inputs: np.ndarray, size: tuple[int, int] = (24, 36)) -> np.ndarray:
    """The tiny model's map of it at the photograph's size; Pillow's bilinear is antialiased too."""
    scores = 1 / (1 + np.exp(-(inputs @ np.array(WEIGHTS) + BIAS)))
    return np.asarray(Image.fromarray(scores.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR))


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_map_is_the_networks_own_answer(model: Path) -> None:
    detector = OnnxDetector(model)
    assert detector.size == (16, 16) and detector.batch == 1
    saliency = detector.of(PHOTO, "a")
    assert saliency.dtype == torch.float32 and saliency.shape == (1, 24, 36)
    np.testing.assert_allclose(saliency[0], answer(seen(*IMAGENET, None)), atol=1e-5)


def test_nothing_is_stretched(tmp_path: Path) -> None:
    """A faint answer stays faint, and a constant one is an answer."""
    faint = write_model(tmp_path / "faint.onnx", weights=[(0.02, 0.0, 0.0)], biases=[-4.0])
    saliency = OnnxDetector(faint).of(PHOTO, "a")
    assert 0 < saliency.min() < saliency.max() < 0.03
    empty = OnnxDetector(write_model(tmp_path / "empty.onnx", weights=[(0.0, 0.0, 0.0)], biases=[-5.0]))
    torch.testing.assert_close(empty.of(PHOTO, "a"), torch.full((1, 24, 36), 0.0066928), atol=1e-6, rtol=0)


def test_other_models_numbers(model: Path) -> None:
    settings = DetectorSettings(mean=(0.5, 0.4, 0.3), std=(1.0, 0.5, 2.0), white="255")
    saliency = OnnxDetector(model, settings=settings).of(PHOTO, "a")
    np.testing.assert_allclose(saliency[0], answer(seen(settings.mean, settings.std, 255)), atol=1e-5)


def test_a_black_photograph_stays_black() -> None:
    got = network_input(Image.new("RGB", (9, 7)), (4, 5))
    assert got.shape == (3, 4, 5) and got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_allclose(got[:, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-6)


def test_scores_need_a_sigmoid_and_it_is_never_guessed(tmp_path: Path, model: Path) -> None:
    scores = write_model(tmp_path / "scores.onnx", weights=[WEIGHTS], biases=[BIAS], sigmoid=False)
    with pytest.raises(
        InputError, match=r"saliency in \[0, 1\], got -\d.* to \d.* for 'cat/a'; .*--activation sigmoid: .*onnx$"
    ):
        OnnxDetector(scores).of(PHOTO, "cat/a")
    saliency = OnnxDetector(scores, settings=DetectorSettings(activation="sigmoid")).of(PHOTO, "a")
    torch.testing.assert_close(saliency, OnnxDetector(model).of(PHOTO, "a"), atol=1e-6, rtol=0)


def test_roundings_overshoot_is_cut(tmp_path: Path) -> None:
    over = write_model(tmp_path / "a.onnx", weights=[(0.0, 0.0, 0.0)], biases=[1.0005], sigmoid=False)
    assert OnnxDetector(over).of(PHOTO, "a").max() == 1


def test_output_by_index(tmp_path: Path) -> None:
    rows = [(0.0, 0.0, 0.0), WEIGHTS]
    two = write_model(tmp_path / "two.onnx", weights=rows, biases=[5.0, BIAS])
    assert OnnxDetector(two).of(PHOTO, "a").min() > 0.99
    second = OnnxDetector(two, settings=DetectorSettings(output=1)).of(PHOTO, "a")
    np.testing.assert_allclose(second[0], answer(seen(*IMAGENET, None)), atol=1e-5)
    for index in (2, -1):
        with pytest.raises(InputError, match=rf"output of the model, 0 to 1, got --output-index {index}: .*two\.onnx$"):
            OnnxDetector(two, settings=DetectorSettings(output=index))


def test_free_sizes(tmp_path: Path) -> None:
    free = write_model(tmp_path / "a.onnx", weights=[WEIGHTS], biases=[BIAS], size=("h", "w"), batch="n")
    detector = OnnxDetector(free)
    assert detector.size == (320, 320) and detector.batch is None
    small = OnnxDetector(free, settings=DetectorSettings(size=20))
    assert small.size == (20, 20)
    np.testing.assert_allclose(small.of(PHOTO, "a")[0], answer(seen(*IMAGENET, None, (20, 20))), atol=1e-5)
    wide = OnnxDetector(write_model(tmp_path / "b.onnx", weights=[WEIGHTS], biases=[BIAS], size=(12, 20)))
    assert wide.size == (12, 20)
    np.testing.assert_allclose(wide.of(PHOTO, "a")[0], answer(seen(*IMAGENET, None, (12, 20))), atol=1e-5)


def test_free_sizes_of_a_model_trained_at_another(tmp_path: Path) -> None:
    free = write_model(tmp_path / "a.onnx", weights=[WEIGHTS], biases=[BIAS], size=("h", "w"))
    assert OnnxDetector(free, settings=DetectorSettings(side=24)).size == (24, 24)
    assert OnnxDetector(free, settings=DetectorSettings(side=24, size=20)).size == (20, 20)
    fixed = OnnxDetector(write_model(tmp_path / "b.onnx"), settings=DetectorSettings(side=24))
    assert fixed.size == (16, 16)
    assert fixed.identity() == OnnxDetector(tmp_path / "b.onnx").identity()  # the side changed nothing


@pytest.mark.parametrize("size", [(16, 16), ("h", "w")])
def test_half_precision(tmp_path: Path, size: tuple[int | str, int | str]) -> None:
    half = write_model(tmp_path / "a.onnx", weights=[WEIGHTS], biases=[BIAS], size=size, kind=HALF)
    detector = OnnxDetector(half, settings=DetectorSettings(size=16))
    saliency = detector.of(PHOTO, "a")
    assert saliency.dtype == torch.float32
    np.testing.assert_allclose(saliency[0], answer(seen(*IMAGENET, None)), atol=5e-3)
    scores = write_model(tmp_path / "b.onnx", weights=[WEIGHTS], biases=[BIAS], size=size, kind=HALF, sigmoid=False)
    same = OnnxDetector(scores, settings=DetectorSettings(size=16, activation="sigmoid")).of(PHOTO, "a")
    torch.testing.assert_close(same, saliency, atol=5e-3, rtol=0)


@pytest.mark.parametrize(("batch", "flat"), [(1, False), ("n", False), ("n", True)])
def test_several_at_once(tmp_path: Path, batch: int | str, flat: bool) -> None:
    detector = OnnxDetector(write_model(tmp_path / "a.onnx", weights=[WEIGHTS], biases=[BIAS], batch=batch, flat=flat))
    photos = [torch.from_numpy(RNG.integers(0, 256, (3, 20, 20), dtype=np.uint8)) for _ in range(3)]
    maps = detector.maps([detector.prepare(photo) for photo in photos], ["a", "b", "c"])
    assert maps.shape == (3, 1, 16, 16)
    for photo, saliency in zip(photos, maps, strict=True):
        torch.testing.assert_close(resized(saliency, (20, 20)), detector.of(photo, "a"))


def test_identity(model: Path, tmp_path: Path) -> None:
    identity = OnnxDetector(model).identity()
    assert identity["model"] == "tiny.onnx" and identity["size"] == [16, 16] and identity["mean"] == IMAGENET[0]
    assert identity["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    other = write_model(tmp_path / "other.onnx", weights=[WEIGHTS], biases=[0.0])
    assert OnnxDetector(other).identity()["sha256"] != identity["sha256"]


def _in_child(detector: OnnxDetector, queue: multiprocessing.Queue[tuple[int, np.ndarray]]) -> None:
    opened: list[int] = []
    real = onnx.open_session
    onnx.open_session = lambda *given, **more: opened.append(os.getpid()) or real(*given, **more)
    for _ in range(2):
        saliency = detector.of(PHOTO, "a").numpy()
    del detector
    queue.put((len(opened), saliency))


def test_a_fork_opens_its_own_session(model: Path) -> None:
    """A fork leaves the session's threads behind; even closing it would wait for them for ever."""
    detector = OnnxDetector(model, threads=2)
    expected = detector.of(PHOTO, "a").numpy()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_child, args=(detector, queue))
    process.start()
    try:
        opened, saliency = queue.get(timeout=60)
        process.join(30)
        assert opened == 1 and process.exitcode == 0
        np.testing.assert_array_equal(saliency, expected)
    finally:
        process.kill()


def test_pickled(model: Path) -> None:
    detector = OnnxDetector(model)
    copy = pickle.loads(pickle.dumps(detector))  # what a spawned process gets
    torch.testing.assert_close(copy.of(PHOTO, "a"), detector.of(PHOTO, "a"))


def test_threads(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked: list[int] = []

    def session(path: str, options: onnxruntime.SessionOptions, **more: object) -> onnxruntime.InferenceSession:
        asked.append(options.intra_op_num_threads)
        return real(path, options, **more)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    OnnxDetector(model, threads=2)
    OnnxDetector(model)
    assert asked == [2, torch.get_num_threads()]
    with pytest.raises(InputError, match="at least 1 thread, got 0"):
        OnnxDetector(model, threads=0)


# ---- what can be wrong


def test_no_onnxruntime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'it is not installed; pip install "attnbn\[saliency\]": .*tiny\.onnx$'):
        OnnxDetector(model)


def test_devices(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    providers: list[list[str]] = []
    real = pytest.importorskip("onnxruntime")

    def session(path: str, options: object, providers: list[str], _kept: list[list[str]] = providers) -> object:
        _kept.append(providers)
        return real.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    for has in (["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]):
        fake = SimpleNamespace(
            SessionOptions=real.SessionOptions, InferenceSession=session, get_available_providers=lambda has=has: has
        )
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        OnnxDetector(model)
        OnnxDetector(model, device="cpu")
    assert providers == [["CUDAExecutionProvider", "CPUExecutionProvider"], *[["CPUExecutionProvider"]] * 3]
    with pytest.raises(InputError, match="pip install onnxruntime-gpu"):
        OnnxDetector(model, device="cuda")


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected an ONNX model, found no file; check the path: .*no\.onnx$"):
        OnnxDetector(tmp_path / "no.onnx")
    with pytest.raises(InputError, match="expected an ONNX model, got a folder"):
        OnnxDetector(tmp_path)
    for content in (b"", b"\x89PNG rubbish"):
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"expected an ONNX model, got something else .*a\.onnx$") as caught:
            OnnxDetector(tmp_path / "a.onnx")
        assert "\n" not in str(caught.value)


def test_a_fault_of_onnxruntime_has_its_remedy(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("[ShapeInferenceError] Cannot parse data from external tensors.\nPlease load")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(InputError, match=r"a fault of onnxruntime 1\.23: pip install -U onnxruntime: .*tiny\.onnx$"):
        OnnxDetector(model)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 4}, r"one picture at a time, or of any number, got 4×3×16×16 tensor\(float\)"),
        ({"inputs": 2}, "one input 1×3×H×W of floats, got 2 inputs"),
        ({"size": (16, 12), "kind": 11}, r"one input 1×3×H×W of floats, got 1×3×16×12 tensor\(double\)"),
    ],
)
def test_another_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object], message: str) -> None:
    if "kind" in wrong:  # a convolution of mixed numbers would not load; what the file says is enough
        import onnxruntime

        said = SimpleNamespace(
            get_inputs=lambda: [SimpleNamespace(name="x", shape=[1, 3, 16, 12], type="tensor(double)")]
        )
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: said)
    path = write_model(tmp_path / "a.onnx", **wrong)
    with pytest.raises(InputError, match=rf"{message}: .*a\.onnx$"):
        OnnxDetector(path)


def test_another_size(model: Path) -> None:
    assert OnnxDetector(model, settings=DetectorSettings(size=16)).size == (16, 16)
    with pytest.raises(InputError, match=r"own input size 1×3×16×16 .*, got --size 20; leave it out: .*tiny\.onnx$"):
        OnnxDetector(model, settings=DetectorSettings(size=20))


def test_no_map(tmp_path: Path) -> None:
    two = OnnxDetector(write_model(tmp_path / "a.onnx", maps=2))
    with pytest.raises(
        InputError, match=r"map 1×1×h×w from the model, got 1×2×16×16; choose another --output-index: .*a\.onnx$"
    ):
        two.of(PHOTO, "a")


@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
def test_no_numbers(tmp_path: Path, bias: float) -> None:
    detector = OnnxDetector(write_model(tmp_path / "a.onnx", biases=[bias], sigmoid=False))
    with pytest.raises(RunError, match=r"NaN or infinity for 'cat/7'; check the model: .*a\.onnx$"):
        detector.of(PHOTO, "cat/7")


def test_a_model_that_fails(tmp_path: Path) -> None:
    detector = OnnxDetector(write_model(tmp_path / "a.onnx"))
    with pytest.raises(RunError, match=r"the saliency model could not be run \(.*a\.onnx$"):
        detector.maps([np.zeros((3, 5, 5), np.float32)], ["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std": (1.0, 0.0, 1.0)}, "deviations above 0"),
        ({"mean": (0.5, 0.5)}, "three means"),
        ({"mean": (0.5, 0.5, float("nan"))}, "three means"),
        ({"size": 0}, "at least 1 pixel"),
        ({"side": 0}, "at least 1 pixel"),
    ],
)
def test_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetectorSettings(**settings)
