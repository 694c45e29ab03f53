"""Program 1 without its sign and with AdamW's constants: where a search that has to find the sign again may begin.

lr is the schedule's factor in [0, 1]; the peak, 0.001, stands inside. Use it with one state: --states m.
"""


def train(w, g, m, v, lr):
    update = interp(g, m, 0.9)
    m = interp(g, m, 0.99)
    wd = w * 0.01
    update = update + wd
    lr = lr * 0.001
    update = update * lr
    return update, m, v
