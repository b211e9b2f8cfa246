"""Reference answers, one file per chapter. The exercises are made from them by taking the answers
out.
"""
