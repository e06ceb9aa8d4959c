"""Compare batch norm over the processes of torchrun with batch norm over the whole batch; write the differences."""

import copy
import json
import sys
from pathlib import Path

import torch
from torch import nn

from audiocnn.training.distributed import process_group


def main(output: Path) -> None:
    """Compare outputs, gradients and running statistics on batches with an odd number of clips."""
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).double()
    with process_group(torch.device("cpu")) as group:
        sharded = group.wrap(copy.deepcopy(whole))
        differences = []
        for clips in (7, 5):
            x = torch.randn(clips, 1, 6, 6, dtype=torch.float64)
            whole.zero_grad()
            sharded.zero_grad()
            expected, found = whole(x), sharded(group.shard(x))
            expected.square().mul(torch.arange(4.0)[:, None, None]).sum().backward()
            (found.square().mul(torch.arange(4.0)[:, None, None]).sum() * group.size).backward()
            differences.append((group.shard(expected) - found).abs().max())
            pairs = zip(whole.parameters(), sharded.parameters(), strict=True)
            differences += [(a.grad - b.grad).abs().max() / (1 + a.grad.abs().max()) for a, b in pairs]
        pairs = zip(whole.buffers(), sharded.buffers(), strict=True)
        differences += [(a - b).abs().max() for a, b in pairs]
        x = torch.randn(6, 1, 6, 6)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # batch norm then gets bfloat16
            short, whole_short = sharded.float()(group.shard(x)), whole.float()(x)
        if group.is_main:
            found = {
                "largest_difference": max(difference.item() for difference in differences),
                "dtype_of_bf16": str(short.dtype),
                "difference_of_bf16": (short - group.shard(whole_short)).abs().max().item(),
            }
            output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
