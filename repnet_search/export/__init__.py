"""Trained designs that leave the house."""
