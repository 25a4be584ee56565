"""What is measured and tried beside the tests: each is `python -m benchmarks.NAME`."""
