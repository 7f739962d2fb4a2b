"""The networks: torch modules from a batch of titles to logits."""
