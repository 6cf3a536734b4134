"""Several processes behind one address, and the one that keeps them."""
