"""The longer pictures of each chapter: chNN.py holds those of chapter NN."""
