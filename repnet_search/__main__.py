"""`python -m repnet_search`."""

from repnet_search.cli.main import main

if __name__ == "__main__":
    main()
