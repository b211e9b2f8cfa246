"""The live lab in a real browser."""
