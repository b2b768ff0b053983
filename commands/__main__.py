"""`python -m eastgate.commands`: the command line, where the script `eastgate` is not on the path."""

from .entry import main

if __name__ == "__main__":
    main()
