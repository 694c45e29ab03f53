"""Lion as the search wrote it, nothing removed: Program 8 of Chen et al. 2023 (arXiv:2302.06675).

lr is the schedule's factor in [0, 1], which also bounds two global norms; the peak, 0.000217, stands inside.
"""


def train(w, g, m, v, lr):
    g = clip(g, lr)
    m = clip(m, lr)
    v845 = sqrt(0.6270633339881897)
    v968 = sign(v)
    v968 = v - v
    g = arcsin(g)
    m = interp(g, v, 0.8999999761581421)
    v1 = m * m
    v = interp(g, m, 1.109133005142212)
    v845 = tanh(v845)
    lr = lr * 0.0002171761734643951
    update = m * lr
    v1 = sqrt(v1)
    update = update / v1
    wd = lr * 0.4601978361606598
    v1 = square(v1)
    wd = wd * w
    m = cosh(update)
    lr = tan(1.4572199583053589)
    update = update + wd
    lr = cos(v845)
    return update, m, v
