"""Networks that judge, and losses made of them."""
