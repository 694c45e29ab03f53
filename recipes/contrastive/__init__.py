"""Contrastive training of image and text towers: LiT and BASIC."""
