"""The course as web pages: `python -m course site`, and the live lab: `python -m course lab`."""
