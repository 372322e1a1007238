"""A small charter, and answers under it."""

import numpy as np

from autokd.federation import Answers, Charter

CHARTER = Charter(
    classes=("cat", "dog", "eel"),
    public_shape=(5, 1, 8, 8),
    public_digest="d",
    policy="crop",
    views=2,
    rounds=3,
    vote="mean",
    n_sites=3,
)


def answer(site, *, seed=0, n_pictures=10, charter=CHARTER):
    logits = np.random.default_rng(seed).normal(0, 3, charter.answers_shape)
    return Answers(site=site, n_pictures=n_pictures, logs=logits.astype(np.float16))
