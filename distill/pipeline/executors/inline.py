"""Run the stages of a graph one after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.pipeline.executors.failures import Failure, log_file, write_traceback
from distill.pipeline.executors.signals import sigterm_exits
from distill.pipeline.executors.waiting import Graph, Work
from distill.system.progress import bar


def run_inline(
    stages: Mapping[str, Work],
    needs: Mapping[str, Sequence[str]],
    run: Callable[[Work], object],
    logs: Path,
    show: bool = False,
    done: Callable[[str], object] = lambda _: None,
) -> dict[str, Failure]:
    """Run every stage after its inputs; a failed stage costs only the stages that need it.

    Args:
        stages: name → stage, in the order in which they run if their inputs allow it.
        needs: name → names of its inputs; names that are not in `stages` are taken to exist.
        run: function that runs one stage.
        logs: folder for the tracebacks of errors that are no user's mistakes.
        show: whether to show a progress bar, if there is a terminal and more than one stage.
        done: function that is called with the name of each finished stage.

    Returns:
        The failures: name of a failed stage → why it failed.

    Raises:
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM; finished stages are kept.
    """
    graph = Graph(stages, needs)
    hidden = None if show and len(stages) > 1 else True
    with sigterm_exits() as end_if_told, bar(total=len(stages), unit="stage", disable=hidden, delay=2) as line:
        while graph.open:
            name = graph.ready()[0]
            line.set_description(name[:60], refresh=False)
            stage = graph.start(name)
            try:
                run(stage)
            except Exception as error:
                end_if_told()
                graph.fail(name, error, write_traceback(error, log_file(logs, name)))
            else:
                graph.finish(name)
                done(name)
            line.update()
    return graph.failures
