"""Configurations for Hydra, `pkg://coralord_lightning.configs`: `data/coralord` and `subset`. No code."""
