"""The training loop, augmentation, checkpoints, distributed training."""
