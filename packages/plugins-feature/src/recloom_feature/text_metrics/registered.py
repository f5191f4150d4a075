"""The registered text metrics: name, formula, and the columns that each needs."""

from __future__ import annotations

from recloom.metrics import Column, TextMetric

from .faithfulness import faithful_texts, faithfulness, hallucination, unknown_items
from .overlap import bleu, meteor_exact, meteor_stem, meteor_synonym, rouge, rouge_l
from .reference_free import (
    distinct,
    feature_coverage,
    feature_diversity,
    feature_matching,
    perplexity,
    unique_texts,
)


def all_text_metrics() -> list[TextMetric]:
    """Every text metric; the libraries of the extra `text` are imported when one that needs them is measured."""
    reference: tuple[Column, ...] = ("reference",)
    cited: tuple[Column, ...] = ("cited", "item", "catalog")
    features: tuple[Column, ...] = ("feature",)
    return [
        TextMetric(name="bleu", about="BLEU of orders 1 to n over all texts", function=bleu, needs=reference,
                   orders=(1, 4)),
        TextMetric(name="rouge", about="F1 of ROUGE-n", function=rouge, needs=reference, orders=(1, 9)),
        TextMetric(name="rouge_l", about="F1 of the longest common subsequence", function=rouge_l, needs=reference),
        TextMetric(name="meteor_exact", about="METEOR by equal words", function=meteor_exact, needs=reference),
        TextMetric(name="meteor_stem", about="METEOR by equal words, then stems", function=meteor_stem,
                   needs=reference),
        TextMetric(name="meteor_synonym", about="METEOR by equal words, stems, then WordNet synonyms",
                   function=meteor_synonym, needs=reference),
        TextMetric(name="perplexity", about="exp of the mean negative log-probability of a token",
                   function=perplexity, needs=("log_probs",), of="tokens", higher_is_better=False, share=False,
                   exponent=True),
        TextMetric(name="distinct", about="distinct n-grams divided by all n-grams", function=distinct, orders=(1, 9)),
        TextMetric(name="unique_texts", about="distinct texts divided by texts (USR)", function=unique_texts),
        TextMetric(name="feature_matching", about="texts that name the feature they should (FMR)",
                   function=feature_matching, needs=features),
        TextMetric(name="feature_coverage", about="share of features that some text names (FCR)",
                   function=feature_coverage, needs=features),
        TextMetric(name="feature_diversity", about="features that two texts have in common (DIV)",
                   function=feature_diversity, needs=features, higher_is_better=False, share=False),
        TextMetric(name="faithfulness", about="cited attributes that the item record holds",
                   function=faithfulness, needs=cited, of="attributes"),
        TextMetric(name="faithful_texts", about="texts that cite only attributes of the item record",
                   function=faithful_texts, needs=cited),
        TextMetric(name="hallucination", about="texts that name an item other than the recommended one",
                   function=hallucination, needs=("named", "item", "catalog"), higher_is_better=False),
        TextMetric(name="unknown_items", about="named items that the catalogue does not have",
                   function=unknown_items, needs=("named", "catalog"), of="names", higher_is_better=False),
    ]  # fmt: skip
