"""Find out which titles to label or to label again."""
