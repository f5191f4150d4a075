"""Recommend with an exported file in Python; needs onnxruntime and numpy.

python recommend.py model.onnx 10 ITEM ITEM ...
"""

import sys

import numpy as np
import onnxruntime

path, k, *history = sys.argv[1:]
session = onnxruntime.InferenceSession(path)
none = np.empty((1, 0), dtype=object)
given = {
    "history": np.array([history], dtype=object),  # most recent last
    "blocked": none,  # never recommended
    "allowed": none,  # nothing else is recommended; none = everything may be
    "k": np.array([int(k)]),
}
items, scores = session.run(["item_id", "score"], given)
for item, score in zip(items[0], scores[0], strict=True):
    if item:  # '' = no item is left
        print(f"{item}\t{score:.4f}")
