"""A mistake of several chapters: the weights of all heads side by side, by a reshape alone."""

MIXED_WEIGHTS = (
    "W_V [head, d_model, d_head] was brought to [d_model, head d_head] by a reshape, which mixes "
    "the numbers up; move the head axis first"
)


def heads_mixed_up(W_V):
    """What head h reads with after that reshape. W_V [head, d_model, d_head] -> the same axes."""
    n_heads, d_model, d_head = W_V.shape
    return W_V.reshape(d_model, n_heads, d_head).transpose(0, 1)
