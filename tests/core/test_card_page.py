"""A card as HTML."""

import dataclasses

from networks import card_of, random_network

from deepsplit_core import card_page, read_card
from deepsplit_core.config import PreprocessingConfig
from deepsplit_core.weights import path_of


def test_the_page_of_the_bundled_model():
    page = card_page(read_card(path_of("nuclei")))
    assert "<b>Model:</b> nuclei: Fluorescent nuclei" in page
    assert "<b>Cell diameter:</b> 25.1 pixels" in page
    assert "dsb2018 (licence CC0, 428 images); bbbc039 (licence CC0, 88 images)" in page


def test_a_model_that_estimates_the_diameter_says_so():
    card = card_of(random_network(), preprocessing=PreprocessingConfig("percentile", diameter=36.0), diameter=36.0)
    assert "<b>Cell diameter:</b> 36 pixels, estimated in each image<br>" in card_page(card)


def test_what_a_card_says_is_text_and_no_markup():
    card = dataclasses.replace(card_of(random_network()), name="<img src=x>", data=[{"name": "a<b>", "licence": "&"}])
    page = card_page(card)
    assert "<img" not in page and "a<b>" not in page
    assert "&lt;img src=x&gt;" in page and "a&lt;b&gt; (licence &amp;)" in page


def test_known_failures_are_told():
    card = card_of(random_network(), known_failures="Cells > 90 pixels fall to pieces.")
    assert "<b>Known failures:</b> Cells &gt; 90 pixels fall to pieces." in card_page(card)


def test_a_card_that_does_not_say_what_it_was_trained_on():
    page = card_page(card_of(random_network()))
    assert "<b>Data:</b> not recorded" in page and "<b>Known failures:</b> not recorded" in page
    assert "without a name (licence not recorded)" in card_page(card_of(random_network(), data=[{}]))
