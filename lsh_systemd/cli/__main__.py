"""python3 -m lsh_systemd.cli: lshctl where no entry point is installed."""

from lsh_systemd.cli import main

main(prog_name="lshctl")
