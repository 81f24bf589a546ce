"""The gallery: pages as files, pages that are served, and both of them in a real browser."""
