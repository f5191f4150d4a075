"""Properties of nodes and of whole graphs, predicted by graph convolutions."""
