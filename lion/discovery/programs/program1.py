"""Lion: Program 1 of Chen et al. 2023 (arXiv:2302.06675), with the paper's betas and the weight decay of ViT-B/16.

One state, m. lr is the whole learning rate, not a factor on one inside.
"""


def train(w, g, m, v, lr):
    update = interp(g, m, 0.9)
    update = sign(update)
    m = interp(g, m, 0.99)
    wd = w * 1.0
    update = update + wd
    update = update * lr
    return update, m, v
