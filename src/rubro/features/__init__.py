"""Features of titles as integers, and word vectors."""
