"""Lion as found, redundant statements removed: Program 4 of Chen et al. 2023 (arXiv:2302.06675).

lr is the schedule's factor in [0, 1], which also bounds the gradient's global norm; the peak, 0.0002, stands inside.
"""


def train(w, g, m, v, lr):
    g = clip(g, lr)
    g = arcsin(g)
    m = interp(g, v, 0.899)
    m2 = m * m
    v = interp(g, m, 1.109)
    abs_m = sqrt(m2)
    update = m / abs_m
    wd = w * 0.4602
    update = update + wd
    lr = lr * 0.0002
    m = cosh(update)
    update = update * lr
    return update, m, v
