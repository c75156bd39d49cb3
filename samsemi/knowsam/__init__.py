"""KnowSAM: two small networks co-trained, with a SAM that learns to prompt itself as their teacher."""
