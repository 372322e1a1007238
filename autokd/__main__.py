"""`python -m autokd` is `autokd`."""

from autokd.cli import main

if __name__ == "__main__":
    main()
