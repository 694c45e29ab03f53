"""AdamW without bias correction and epsilon, where the search begins: Program 3 of Chen et al. 2023 (arXiv:2302.06675).

lr is the schedule's factor in [0, 1]; the peak, 0.001, stands inside.
"""


def train(w, g, m, v, lr):
    g2 = square(g)
    m = interp(g, m, 0.9)
    v = interp(g2, v, 0.999)
    sqrt_v = sqrt(v)
    update = m / sqrt_v
    wd = w * 0.01
    update = update + wd
    lr = lr * 0.001
    update = update * lr
    return update, m, v
