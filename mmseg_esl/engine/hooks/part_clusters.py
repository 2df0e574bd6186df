"""Parts of one class: clusters of its pixels' features."""
from __future__ import annotations

import numpy as np


def fixed_parts(feats: np.ndarray, num_parts: int, seed: int) -> np.ndarray:
    """K-means into ``num_parts`` clusters (paper Sec. 3.3): their means ``(K, D)``.

    Args:
        feats: ``(n, D)`` float, n >= K.
    """
    return _kmeans(feats, num_parts, seed).cluster_centers_


def parts_by_silhouette(feats: np.ndarray, max_parts: int, seed: int, *, least: float = 0.25,
                        sample: int = 1024) -> np.ndarray:
    """As many parts as separate best: the number in 2..K with the greatest mean silhouette.

    One part if even that is below ``least``: up to 0.25 'no substantial structure has been found'
    (Kaufman and Rousseeuw, Finding Groups in Data, 1990, table 4). Distances are cosine distances,
    as those by which pixels are assigned. (Our choice. The Bayesian information criterion of
    Gaussian mixtures was tried too: it chose the largest number allowed for nearly every class.)

    Args:
        feats: ``(n, D)`` float, n >= K; rows of zeros are allowed.
        max_parts: K, the most parts.
        seed: of the K-means and of the sample.
        least: mean silhouette in [-1, 1] below which there is one part.
        sample: most pixels on which silhouettes are computed, whose distances are held.

    Returns:
        means ``(k, D)``, 1 <= k <= K.
    """
    from sklearn.metrics import silhouette_score
    chosen = np.random.RandomState(seed).permutation(len(feats))[:sample]
    best, score = _kmeans(feats, 1, seed), least
    for count in range(2, max_parts + 1):
        found = _kmeans(feats, count, seed)
        labels = found.labels_[chosen]
        if not 1 < len(np.unique(labels)) < len(chosen):  # a silhouette needs two clusters
            continue
        mean = silhouette_score(feats[chosen], labels, metric='cosine')
        if mean > score:
            best, score = found, mean
    return best.cluster_centers_


def _kmeans(feats: np.ndarray, count: int, seed: int):
    from sklearn.cluster import KMeans
    return KMeans(count, n_init=4, random_state=seed).fit(feats)
