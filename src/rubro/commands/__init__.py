"""What the rubro command does with a trained model, and with metrics in Git."""
