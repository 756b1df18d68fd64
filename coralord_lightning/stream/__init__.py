"""Finished versions to tensors. torch lives here."""
