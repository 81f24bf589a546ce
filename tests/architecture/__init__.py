"""The rules that hold for the source itself: layers, purity, sizes, names, lint, types, contents of the checkout."""
