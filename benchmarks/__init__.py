"""pytest-benchmark suites, one file per op, each with its peers in the same run: `make bench`."""
