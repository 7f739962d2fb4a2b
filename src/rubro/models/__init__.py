"""Networks: torch modules that turn batches of titles into logits."""
