"""Points at which the product dies by its own hand, between two things that it does not do in one; and what follows."""
