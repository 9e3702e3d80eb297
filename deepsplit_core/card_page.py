"""A card as a short page of HTML, for a window in which a model is chosen."""

from __future__ import annotations

import math
from html import escape

from .weights import Card


def card_page(card: Card) -> str:
    """Tell what a model is for, of which data it was made, under which licence, its cells' size, and where it fails.

    The page is simple enough for the HTML window of wx. Whatever the card says is shown as text.
    """
    estimated = ", estimated in each image" if card.preprocessing.diameter else ""
    own, smallest = card.splitting, 2 * math.sqrt(card.splitting.smallest_cell / math.pi)
    rows = [
        ("Model", f"{card.name}: {card.description}"),
        ("Cell diameter", f"{card.diameter:g} pixels{estimated}"),
        (
            "Own values",
            f"segmentation threshold {own.segmentation_threshold:g}, separation threshold "
            f"{own.separation_threshold:g}, longest cut {own.longest_cut:.1f} pixels, smallest object {smallest:.1f} "
            "pixels across; both times the image's DeepSplit_Scale",
        ),
        ("Data", "; ".join(_data_set(entry) for entry in card.data) or "not recorded"),
        ("Known failures", card.known_failures or "not recorded"),
    ]
    return "<br>".join(f"<b>{title}:</b> {escape(text)}" for title, text in rows)


def _data_set(entry: dict[str, object]) -> str:
    images = f", {entry['images']} images" if "images" in entry else ""
    return f"{entry.get('name', 'without a name')} (licence {entry.get('licence', 'not recorded')}{images})"
