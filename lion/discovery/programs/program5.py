"""AdamW with another regularization, from a search on less data: Program 5 of Chen et al. 2023 (arXiv:2302.06675).

The weight decay grows with the inner product of gradient and weights. lr is the schedule's factor in [0, 1].
"""


def train(w, g, m, v, lr):
    m = interp(m, g, 0.16)
    g2 = square(g)
    v = interp(v, g2, 0.001)
    v753 = dot(g, w)
    sqrt_v = sqrt(v)
    update = m / sqrt_v
    wd = v753 * w
    update = sin(update)
    update = update + wd
    lr = lr * 0.0216
    update = update * lr
    v = sin(v)
    return update, m, v
