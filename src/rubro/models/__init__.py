"""The classifiers: plain torch modules from a batch of titles to logits."""
