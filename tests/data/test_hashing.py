import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.hashing import Stream, counter_hash, splitmix64, splitmix64_word

INT64 = st.integers(-(2**63), 2**63 - 1)


def test_splitmix64_matches_the_published_sequence():
    # The first three outputs of the reference implementation for state 1234567.
    gamma = 0x9E3779B97F4A7C15
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    words = [splitmix64_word(1234567 + step * gamma) % 2**64 for step in range(3)]
    assert words == expected


@given(st.lists(INT64, min_size=1, max_size=40))
def test_number_and_tensor_forms_agree(counters):
    assert splitmix64(torch.tensor(counters)).tolist() == [splitmix64_word(counter) for counter in counters]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
@settings(max_examples=50)
def test_one_counter_for_all_equals_one_each(seed, counter, index):
    index = torch.tensor(index)
    each = counter_hash(Stream.VIEW, seed, torch.full_like(index, counter), index)
    assert torch.equal(counter_hash(Stream.VIEW, seed, counter, index), each)


def test_streams_seeds_and_counters_give_different_bits():
    index = torch.arange(1000)
    draws = [
        counter_hash(stream, seed, counter, index) for stream in Stream for seed in (0, 1) for counter in (0, 1, 2)
    ]
    assert len(torch.cat(draws).unique()) == len(draws) * 1000


def test_each_bit_is_fair():
    bits = counter_hash(Stream.VIEW, 3, 0, torch.arange(20_000))
    ones = torch.stack([(bits >> place) & 1 for place in range(64)]).double().mean(1)
    # Five standard deviations of a share of 20,000 fair bits.
    assert (ones - 0.5).abs().max() < 5 * 0.5 / 20_000**0.5
