"""Like AdaBelief, the second moment of g - m, from a short search: Program 7 of Chen et al. 2023 (arXiv:2302.06675).

lr is the schedule's factor in [0, 1].
"""


def train(w, g, m, v, lr):
    m = interp(m, g, 0.1)
    g = g - m
    g2 = square(g)
    v = interp(v, g2, 0.001)
    sqrt_v = sqrt(v)
    update = m / sqrt_v
    wd = w * 0.0238
    update = update + wd
    lr = lr * 0.03721
    update = update * lr
    return update, m, v
