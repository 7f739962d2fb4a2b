"""Find wrong labels, and choose the titles to label next."""
