"""The training loop, augmentation, checkpoints and distributed training."""
