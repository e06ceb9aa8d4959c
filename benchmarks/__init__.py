"""What README's figures come from: each compares with a named baseline, side by side in one run."""
