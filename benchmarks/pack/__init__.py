"""Packing beside other ways."""
