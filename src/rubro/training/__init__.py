"""Training of the embedding and the classifiers."""
