"""What the rubro command does with a trained model."""
