"""Read, process, write, exactly once, while processors and the broker are killed: see test_exactly_once.py."""
