"""A product with one bug in it: processes whose source is changed as they read it, by nothing that the product has."""
