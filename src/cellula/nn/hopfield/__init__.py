"""Associative memories after Hopfield, and layers that learn with them."""

from cellula.nn.hopfield.dense import DenseHopfieldMemory
from cellula.nn.hopfield.dynamics import Recall
from cellula.nn.hopfield.images import to_image, to_pattern
from cellula.nn.hopfield.layers import HopfieldAssociation, HopfieldLookup, HopfieldPooling
from cellula.nn.hopfield.memory import HopfieldMemory

__all__ = [
    "DenseHopfieldMemory",
    "HopfieldAssociation",
    "HopfieldLookup",
    "HopfieldMemory",
    "HopfieldPooling",
    "Recall",
    "to_image",
    "to_pattern",
]
