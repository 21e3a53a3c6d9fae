"""Half-written files of a killed process are removed by the one that writes them anew, and by no other."""

from pathlib import Path

from attnbn.io.atomic import part_stem, remove_parts


def test_only_the_parts_of_the_files_named_go(tmp_path: Path) -> None:
    room, long = tmp_path / "maps", "a" * 120 + ".png"
    parts = {name: room / f".{part_stem(Path(name))}.x7_kq2ab.part" for name in ("a.png", "zoo/a.png", "b.png", long)}
    parts["zoo/a.png"] = room / "zoo" / ".a.png.aaaaaaaa.part"
    second = room / ".a.png.bbbbbbbb.part"
    for part in (*parts.values(), second):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"half")
    (room / "a.png").write_bytes(b"whole")
    remove_parts([room, tmp_path / "none"], (room / name for name in ("a.png", "c.png", long)))
    left = {path for path in room.rglob("*") if path.is_file()}
    # a long name is cut in the temporary one, which may then be another photograph's
    assert left == {room / "a.png", parts["zoo/a.png"], parts["b.png"], parts[long]}
