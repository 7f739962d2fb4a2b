"""HTTP service that answers with a trained model, and its web page."""
