"""`python -m napari_wsiseg`: the command line."""

from __future__ import annotations

import sys

from napari_wsiseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
