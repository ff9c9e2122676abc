"""The version: a module of its own, so that nobody has to import the package for it."""

__version__ = "0.1.0"
