"""A whole program as one operator of torch, for torch.compile and torch.export."""
