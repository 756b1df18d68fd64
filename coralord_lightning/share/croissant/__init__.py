"""A version as a Croissant dataset of its own: its description, its Parquet files, its provenance. Chooses no place."""
