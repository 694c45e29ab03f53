"""Like AdaGrad, the second moment a sum with a cap, from a short search: Program 6 of Chen et al. 2023 (arXiv:2302.06675).

lr is the schedule's factor in [0, 1].
"""


def train(w, g, m, v, lr):
    m = interp(m, g, 0.1)
    g2 = square(g)
    g2 = v + g2
    v = interp(v, g2, 0.0015)
    sqrt_v = sqrt(v)
    update = m / sqrt_v
    v70 = get_pi()
    v = minimum(v, v70)
    update = sinh(update)
    lr = lr * 0.0606
    update = update * lr
    return update, m, v
