"""HTTP service and web page that predict categories of titles with a trained model."""
