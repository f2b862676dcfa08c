from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.pipeline.executors.stage_graph import Graph

pytestmark = pytest.mark.fault("a node or a worker process that dies")


@st.composite
def graphs(draw):
    """Draw the stages of a graph without cycles, in any order, and the stages that fail."""
    count = draw(st.integers(1, 8))
    needs = {
        f"s{i}": draw(st.lists(st.sampled_from([f"s{j}" for j in range(i)] or ["elsewhere"]))) for i in range(count)
    }
    order = draw(st.permutations(list(needs)))
    return {name: name.upper() for name in order}, needs, draw(st.sets(st.sampled_from(order)))


def behind(name, needs):
    direct = {other for other, inputs in needs.items() if name in inputs}
    return direct.union(*(behind(other, needs) for other in direct))


@given(graphs(), st.data())
def test_a_stage_starts_after_its_inputs_and_a_failure_costs_exactly_what_needs_it(drawn, data):
    stages, needs, failing = drawn
    graph = Graph(stages, needs, print, Path())
    finished = set()
    while graph.open:
        ready = graph.ready()
        assert ready == [name for name in stages if name in ready]
        moves = [("start", name) for name in ready] + [("end", name) for name in sorted(graph.running)]
        move, name = data.draw(st.sampled_from(moves))
        if move == "start":
            assert finished >= {other for other in needs[name] if other in stages}
            assert graph.start(name) == name.upper()
        elif name in failing:
            graph.fail(name, ValueError(name))
        else:
            graph.finish(name)
            finished.add(name)
    lost = set().union(*(behind(name, needs) for name in graph.failures))
    assert graph.blocked == lost
    assert finished == set(stages) - lost - set(graph.failures)
    assert set(graph.failures) == failing - lost
    for name, failure in graph.failures.items():
        assert list(failure.blocked) == [other for other in stages if other in behind(name, needs)]


def test_ten_thousand_stages_are_walked_through_in_no_time():
    needs = {f"s{i}": [f"s{i - 1}"] * (i > 0) for i in range(10_000)}
    graph = Graph(needs, needs, print, Path())
    graph.start("s0")
    graph.fail("s0", ValueError())
    assert len(graph.failures["s0"].blocked) == 9_999
    assert not graph.open
