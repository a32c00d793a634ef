"""lshctl graph."""

import click

from lsh_systemd.cli.common import App, json_option, print_json, with_app
from lsh_systemd.follow import Edge, edges


@click.command("graph")
@click.option("--dot", is_flag=True, help="Print it for Graphviz: lshctl graph --dot | dot -Tsvg.")
@json_option
@with_app
def graph_command(app: App, dot: bool, as_json: bool) -> None:
    """Show which jobs follow which."""
    jobs = [found.job for found in app.jobs.all() if found.job]
    found = edges(jobs)
    if as_json:
        plain = [{"from": edge.first, "to": edge.then, "kind": edge.kind} for edge in found]
        print_json({"jobs": [job.id for job in jobs], "edges": plain})
    elif dot:
        lines = [f'    "{edge.first}" -> "{edge.then}" [label="{edge.kind}"];' for edge in found]
        click.echo("\n".join(["digraph jobs {", *lines, "}"]))
    elif not found:
        click.echo("No job follows another. lshctl add NAME --after JOB -- COMMAND makes one that does.")
    else:
        click.echo("\n".join(tree(found)))


def tree(found: list[Edge]) -> list[str]:
    """A line a job, below what starts it; of one that several start, what follows it is shown once."""
    thens = {edge.then for edge in found}
    firsts = dict.fromkeys(edge.first for edge in found)
    roots = [first for first in firsts if first not in thens] or list(firsts)[:1]
    lines: list[str] = []
    shown: set[str] = set()

    def below(job: str, indent: str) -> None:
        shown.add(job)
        mine = [edge for edge in found if edge.first == job]
        for edge in mine:
            last = edge is mine[-1]
            again = edge.then in shown and any(each.first == edge.then for each in found)
            mark = " …" if again else ""
            lines.append(f"{indent}{'└─' if last else '├─'} {edge.then} ({edge.kind}){mark}")
            if not again:
                below(edge.then, indent + ("   " if last else "│  "))

    for root in roots:
        lines.append(root)
        below(root, "")
    return lines
