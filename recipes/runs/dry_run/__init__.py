"""What a run would cost, without data, training or memory: docs/dry_run.md."""
