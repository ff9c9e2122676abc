"""The command line: arguments -> job -> engine. Knows no pixel and no rule of its own."""

from __future__ import annotations


def main() -> int:
    """Run the command line on `sys.argv`; the exit status.

    0: done; 1: a slide failed (the others ran); 2: bad usage or input; 3: complete but
    for patches that failed; 130: interrupted, and the same command goes on.
    """
    from napari_wsiseg.cli.app import run

    return run()
