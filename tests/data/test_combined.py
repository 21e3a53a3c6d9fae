"""Several data sets as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnbn.data.combined import Combined, combine, short_names
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.sample import Saliency, Sample
from attnbn.data.scenes import open_scenes


class Mapped(ImageDataset):
    """Scenes whose saliency is left out."""

    def __init__(self, inner: ImageDataset) -> None:
        super().__init__(inner.classes, inner.names, inner.labels, notes=["a note"], title="without maps")
        self.inner = inner

    def __getitem__(self, index: int) -> Sample:
        return replace(self.inner[index], saliency=None)


def test_two_data_sets_one_after_the_other() -> None:
    first = open_scenes("studio?count=5", split="train", masks=True)
    second = Mapped(open_scenes("dusk?count=4", split="train"))
    both = Combined([first, second], ["a", "b"])
    assert len(both) == 9 and both.classes == first.classes
    assert both.names == [f"a/{n}" for n in first.names] + [f"b/{n}" for n in second.names]
    assert first.labels is not None and second.labels is not None and both.labels is not None
    assert torch.equal(both.labels, torch.cat([first.labels, second.labels]))
    assert both.has_saliency and not both.has_masks
    assert any("a note" in note for note in both.notes) and any(note.startswith("a/: ") for note in both.notes)
    for i in range(9):
        sample, own = both[i], first[i] if i < 5 else second[i - 5]
        assert torch.equal(sample.image, own.image) and sample.name == both.names[i]
        assert sample.labels is not None and torch.equal(sample.labels, both.labels[i])
        assert sample.mask is None
        assert isinstance(sample.saliency, Saliency) == (i < 5)
    assert both[-1].name == both.names[-1]
    with pytest.raises(IndexError):
        both[9]


def test_part_of_a_combination() -> None:
    both = Combined([open_scenes(f"{name}?count=3", split="test") for name in ("studio", "print")])
    part = Subset(both, [4, 0])
    assert [sample.name for sample in part] == ["2/print/test/00001", "1/studio/test/00000"]
    assert torch.equal(part[0].image, open_scenes("print?count=3", split="test")[1].image)


def test_without_labels() -> None:
    both = Combined([open_scenes("studio?count=2", split="test", labels=False)] * 2)
    assert both.labels is None and both[3].labels is None


def test_what_cannot_be_combined() -> None:
    trio, six = open_scenes("studio?count=2", split="test"), open_scenes("source?count=2", split="test")
    blind = open_scenes("dusk?count=2", split="test", labels=False)
    for datasets, prefixes, message in (
        ([trio, six], None, "the same classes"),
        ([], None, "the same classes"),
        ([trio, blind], None, "labels of all data sets or of none, got those of 1"),
        ([trio, trio], ["x", "x"], "2 prefixes that differ"),
        ([trio, trio], ["x"], "2 prefixes that differ"),
    ):
        with pytest.raises(ValueError, match=message):
            Combined(datasets, prefixes)


def test_one_is_itself() -> None:
    dataset = open_scenes("studio?count=2", split="test")
    assert combine([dataset], ["anywhere"]) is dataset
    assert combine([dataset, open_scenes("dusk?count=1", split="test")], ["studio", "dusk"]).names[2] == (
        "dusk/dusk/test/00000"
    )


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["/data/A", "/data/B"], ["A", "B"]),
        (["/office/amazon/images", "/office/dslr/images"], ["amazon/images", "dslr/images"]),
        (["/x/A", "/A"], ["x/A", "A"]),
        (["studio", "dusk?bias=0"], ["studio", "dusk?bias=0"]),
        (["../A", "A"], ["1", "2"]),
    ],
)
def test_short_names(places: list[str], expected: list[str]) -> None:
    assert short_names(places) == expected
