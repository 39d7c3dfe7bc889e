"""Proxy training in the exact recipe."""
