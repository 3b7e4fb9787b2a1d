"""Posed views in, synthesised views out: engines, composition, provenance, scale."""
