"""Where you write. One file per chapter; `python -m exercises` says what is next."""
