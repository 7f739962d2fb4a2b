"""Training of the word embedding, the classifiers and their ensemble."""
