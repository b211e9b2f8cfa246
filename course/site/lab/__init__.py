"""The live lab: trained models that run in a web page (lab.py makes it, main.js begins it)."""

from .experiments import experiment_names
from .lab import page, write

__all__ = ["experiment_names", "page", "write"]
