"""From raw title files to the three splits."""
