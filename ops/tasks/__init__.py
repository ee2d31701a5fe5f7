"""Few-shot problems made of pools; README.md says in what order to read them."""
