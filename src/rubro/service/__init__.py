"""A web service that answers with a trained model, and its page."""
