"""Raw title files and the three splits made of them."""
