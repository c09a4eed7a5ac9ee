"""`python -m kandle.cli` is the same as `kandle`."""

from kandle.cli.app import main

if __name__ == "__main__":
    main()
