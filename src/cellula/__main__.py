"""`python -m cellula`: the command line."""

from cellula.cli import main

if __name__ == "__main__":
    main()
