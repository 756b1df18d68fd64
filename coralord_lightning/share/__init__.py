"""Finished versions and definitions for others: Hugging Face, Croissant. Knows no store and makes no request."""
