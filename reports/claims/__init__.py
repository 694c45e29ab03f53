"""Claims of the paper and what records say of them."""
