"""The argument, one chapter per file. python -m course lists them, python -m course 7 runs one."""
