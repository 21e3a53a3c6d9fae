"""Sharing the work."""

import pytest

from attnbn.inference.shards import Shard, current_shard, own, shard_of
from attnbn.io.errors import InputError


def test_every_name_belongs_to_exactly_one_process_whatever_the_order() -> None:
    names = [f"photo{i}" for i in range(3000)]
    shares = [own(names, Shard(rank, 3)) for rank in range(3)]
    assert sorted(i for share in shares for i in share) == list(range(3000))
    assert all(900 < len(share) < 1100 for share in shares)
    assert {names[i] for i in shares[1]} == {names[::-1][i] for i in own(names[::-1], Shard(1, 3))}
    assert own(names, Shard()) == list(range(3000))


def test_the_shares_never_change() -> None:
    assert [shard_of(name, 4) for name in ("a", "b", "zoo/c", "été")] == [2, 2, 1, 1]


def test_the_shard_is_the_launchers_unless_given() -> None:
    assert current_shard(environment={}) == Shard(0, 1)
    assert current_shard(environment={"RANK": "2", "WORLD_SIZE": "4"}) == Shard(2, 4)
    assert current_shard(1, 2, {"RANK": "0", "WORLD_SIZE": "4"}) == Shard(1, 2)


@pytest.mark.parametrize("values", [("1", None), (None, "2"), ("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0")])
def test_bad_shards(values: tuple[str | None, str | None]) -> None:
    environment = {key: value for key, value in zip(("RANK", "WORLD_SIZE"), values, strict=True) if value is not None}
    with pytest.raises(InputError, match="RANK"):
        current_shard(environment=environment)
