"""Drawn images whose cells are known: discs, text pictures, perfect probabilities."""

import numpy as np
from scipy import ndimage


def picture(text):
    """Labels from a drawing: one line a row, '.' = background, a digit = that cell: (Y, X) int32."""
    rows = text.split()
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.int32)


def disc(shape, centre, radius):
    """(Y, X) bool: the pixels whose centres are at most `radius` from `centre` (y, x)."""
    y, x = np.indices(shape)
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def discs(shape, circles):
    """Labels 1..n of circles (y, x, radius); a pixel in several belongs to the one that it lies deepest in."""
    y, x = np.indices(shape)
    depth = np.stack([radius - np.hypot(y - cy, x - cx) for cy, cx, radius in circles])
    return np.where(depth.max(axis=0) >= 0, depth.argmax(axis=0) + 1, 0).astype(np.int32)


def grid_of_pairs(n_rows, n_columns, radius=10, apart=18, spacing=48):
    """Pairs of touching discs in rows and columns, as circles for `discs`, and the shape that holds them."""
    circles = []
    for row in range(n_rows):
        for column in range(n_columns):
            y, x = spacing * (row + 0.5), spacing * (column + 0.5)
            # Every other pair stands upright.
            dy, dx = (0, apart / 2) if (row + column) % 2 else (apart / 2, 0)
            circles += [(y - dy, x - dx, radius), (y + dy, x + dx, radius)]
    return circles, (n_rows * spacing, n_columns * spacing)


def photograph(labels, blur=1.0, noise=0.02, seed=0):
    """A grey image of cells, each of its own brightness and darker where it meets another: (Y, X) uint16."""
    rng = np.random.default_rng(seed)
    brightness = np.concatenate([[0.0], rng.uniform(0.6, 1.0, labels.max(initial=0))])
    # Each cell is brightest in its middle, so that a dip marks the contact.
    depth = np.zeros(labels.shape)
    for label in range(1, labels.max(initial=0) + 1):
        depth = np.maximum(depth, ndimage.distance_transform_edt(labels == label))
    dome = np.clip(0.35 + depth / 6, 0, 1) * (labels > 0)
    grey = ndimage.gaussian_filter(brightness[labels] * dome, blur) + 0.05
    grey = grey + noise * rng.standard_normal(labels.shape)
    return (np.clip(grey, 0, None) * 20000).astype(np.uint16)


def contact(labels):
    """(Y, X) bool: the pixels of a cell that share a side with another cell."""
    touch = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = (labels[one] != labels[other]) & (labels[one] > 0) & (labels[other] > 0)
        touch[one] |= differ
        touch[other] |= differ
    return touch


def perfect_probabilities(labels):
    """What a perfect network says of labelled cells: (2, Y, X) float32 of zeros and ones."""
    return np.stack([labels > 0, contact(labels)]).astype(np.float32)


def as_sets(labels):
    """The cells as a set of sets of pixel indices: equal for two labellings that differ in numbers only."""
    flat = labels.ravel()
    return {frozenset(np.flatnonzero(flat == value).tolist()) for value in np.unique(flat) if value}
