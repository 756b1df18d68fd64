"""Versions as Hugging Face knows data: datasets over the same files, folders of Parquet with a card, repositories.

`datasets` and `huggingface_hub` are imported by the modules of this room, so it is imported late.
"""
