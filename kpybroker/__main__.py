"""`python -m kpybroker` is the command `kpybroker`."""

from kpybroker.tools.cli import main

if __name__ == "__main__":
    main()
