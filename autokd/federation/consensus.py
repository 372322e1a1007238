"""What all sites say together."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float16, Float32
from scipy.special import log_softmax, logsumexp

from autokd.federation.answers import Answers
from autokd.federation.charter import Vote

__all__ = ["build_consensus"]

_UNSURE = 1e-6  # nats; the confidence below which sites are not told apart
_SHARPNESS = 0.1  # temperature of Itahara et al., section IV


def build_consensus(
    answers: Sequence[Answers], *, vote: Vote
) -> Float32[np.ndarray, "views pictures classes"]:
    """Logits of the mixture of all sites.

    Probabilities at temperature 1 are averaged, not logits: each network has a scale of its own,
    and the loudest would drown the others (FedDF averages logits, FedMD class scores). The recipe
    softens what comes out, as it would of one teacher. Sites are taken in the order of their
    names, so that all find the same, bit for bit.

    Args:
        answers: Of one or more sites, of the same views, pictures and classes.
        vote: `mean`; `confidence` (a site counts for a picture by what its answer lacks in
            entropy); `pictures` (by how many it has learnt from); or `sharpened` (the mean with
            its entropy reduced, for sites that know different classes).

    Returns:
        Logits; but for `sharpened`, logarithms of probabilities.

    References:
        Itahara et al., "Distillation-Based Semi-Supervised Federated Learning", 2020, section IV
        (averaged probabilities, and the entropy reduction of `sharpened`).
        https://arxiv.org/abs/2008.06180
    """
    heard = sorted(answers, key=lambda one: one.site)
    n_pictures = np.array([one.n_pictures for one in heard], np.float32)
    views = [  # one after another: all of all sites in full precision may not fit in memory
        _mix(np.stack([one.logs[view] for one in heard]), n_pictures=n_pictures, vote=vote)
        for view in range(len(heard[0].logs))
    ]
    return np.stack(views)


def _mix(
    logs: Float16[np.ndarray, "sites pictures classes"],
    *,
    n_pictures: Float32[np.ndarray, " sites"],
    vote: Vote,
) -> Float32[np.ndarray, "pictures classes"]:
    """Logits of the mixture for one view."""
    sure = log_softmax(logs.astype(np.float32), axis=-1)
    weights = np.ones(sure.shape[:-1], dtype=np.float32)
    if vote == "confidence":
        entropy = -(np.exp(sure) * sure).sum(axis=-1)
        weights = np.maximum(math.log(sure.shape[-1]) - entropy, _UNSURE)
    elif vote == "pictures":
        weights *= n_pictures[:, None]
    shares = weights / weights.sum(axis=0, keepdims=True)
    mixture = np.asarray(logsumexp(sure + np.log(shares)[..., None], axis=0))
    if vote == "sharpened":
        mixture = np.exp(mixture) / np.float32(_SHARPNESS)
    return np.ascontiguousarray(mixture, dtype=np.float32)
