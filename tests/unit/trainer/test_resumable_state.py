"""`resumable_state.py`, the file that scripts copy: random generators, and a loader's place."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kaggle_manager.trainer.script.resumable_state import Batches, endless, random_state, seed_all, set_random_state


def draws() -> tuple[object, ...]:
    return random.random(), random.gauss(0, 1), np.random.rand(3).tolist(), np.random.normal(), torch.rand(3).tolist()


def test_generators_go_on_where_they_were_also_through_json_and_a_safe_torch_load(tmp_path: Path) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    random.gauss(0, 1), np.random.normal()  # each keeps a second value back
    state = random_state()
    expected = draws()
    torch.save(state, tmp_path / "state.pt")
    for kept in (json.loads(json.dumps(state)), torch.load(tmp_path / "state.pt", weights_only=True), state):
        draws()
        set_random_state(kept)
        assert draws() == expected


def test_a_seed_is_of_every_generator() -> None:
    seed_all(5)
    expected = draws()
    draws()
    seed_all(5)
    assert draws() == expected
    seed_all(6)
    assert not {*map(str, draws())} & {*map(str, expected)}


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    def taken(count: int, **options: int) -> list[list[int]]:
        stream = endless(Batches(23, 5, drop_last=True, **options))
        return [next(stream) for _ in range(count)]

    whole = taken(11, seed=2)
    assert [taken(11 - step, seed=2, step=step) for step in range(11)] == [whole[step:] for step in range(11)]
    assert len(Batches(23, 5, drop_last=True)) == 4
    assert all(len({item for batch in whole[epoch : epoch + 4] for item in batch}) == 20 for epoch in (0, 4))
    assert whole[:4] != whole[4:8]
    assert taken(11, seed=3) != whole
    with pytest.raises(ValueError, match="4 items make no batch of 5"):
        Batches(4, 5, drop_last=True)


def test_the_last_batch_of_an_epoch_has_the_items_that_are_left_as_a_loader_s_has() -> None:
    def taken(count: int, step: int = 0) -> list[list[int]]:
        stream = endless(Batches(23, 5, seed=2, step=step))
        return [next(stream) for _ in range(count)]

    sizes = [len(batch) for batch in torch.utils.data.DataLoader(range(23), batch_size=5)]  # type: ignore[arg-type]
    whole = taken(13)
    assert len(Batches(23, 5)) == len(sizes)
    assert [len(batch) for batch in whole] == [*sizes, *sizes, *sizes][:13]
    assert sorted(item for batch in whole[5:10] for item in batch) == list(range(23))
    assert [taken(13 - step, step) for step in range(13)] == [whole[step:] for step in range(13)]
    assert len(Batches(20, 5)) == 4
    assert next(iter(Batches(4, 5))) == next(iter(Batches(4, 4)))


@pytest.mark.slow
def test_the_loader_s_place_is_that_of_what_was_used_not_of_what_was_fetched() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(12))

    def loader(step: int) -> Iterator[list[torch.Tensor]]:
        batches = Batches(12, 2, step=step)
        return endless(torch.utils.data.DataLoader(data, batch_sampler=batches, num_workers=1))

    whole, rest = loader(0), loader(4)
    expected = [next(whole)[0].tolist() for _ in range(8)][4:]
    assert [next(rest)[0].tolist() for _ in range(4)] == expected


def test_a_new_epoch_of_a_loader_with_a_generator_of_its_own_draws_nothing_from_torch() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(12))
    batches = Batches(12, 2)
    loader = endless(torch.utils.data.DataLoader(data, batch_sampler=batches, generator=torch.Generator()))
    before = torch.get_rng_state()
    for _ in range(13):
        next(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_of_several_processes_has_its_own_part_of_a_step() -> None:
    whole = [step for step, _ in zip(endless(Batches(22, 6, seed=2)), range(7), strict=False)]
    parts = [
        [step for step, _ in zip(endless(Batches(22, 3, seed=2, rank=rank, ranks=2)), range(7), strict=False)]
        for rank in (0, 1)
    ]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole
    assert [[len(batch) for batch in Batches(23, 3, rank=rank, ranks=2)] for rank in (0, 1)] == [[3, 3, 3, 2]] * 2
