"""Run the stages of a graph one after another, in this process."""

from __future__ import annotations

from distill.pipeline.executors.failures import Failure, log_file, write_traceback
from distill.pipeline.executors.signals import signals_raise
from distill.pipeline.executors.stage_graph import Graph, Work
from distill.system.progress import bar


def run_inline(graph: Graph[Work]) -> dict[str, Failure]:
    """Run every stage after its inputs, and return the failures.

    Raises:
        KeyboardInterrupt, SystemExit: on SIGINT, SIGTERM or SIGHUP; finished stages are kept.
    """
    count = len(graph.stages)
    hidden = None if graph.show and count > 1 else True
    with signals_raise() as end_if_told, bar(total=count, unit="stage", disable=hidden, delay=2) as line:
        while graph.open:
            name = graph.ready()[0]
            line.set_description(name[:60], refresh=False)
            stage = graph.start(name)
            try:
                graph.run(stage)
            except Exception as error:
                end_if_told()
                graph.fail(name, error, write_traceback(error, log_file(graph.logs, name)))
            else:
                graph.finish(name)
            line.update()
    return graph.failures
