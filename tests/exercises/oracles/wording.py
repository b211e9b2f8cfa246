"""Results that must come, and refusals that must come, said in the check's own words."""

from exercises.attempts import Wrong


def expect_result(function, arguments: tuple, sentence: str):
    """What the function returns. If it raises instead, the sentence says what was asked of it."""
    try:
        return function(*arguments)
    except Wrong as wrong:
        raise Wrong(f"{sentence}: {wrong}", wrong.line) from None
