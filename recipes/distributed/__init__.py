"""Several processes: devices, agreement between ranks, shards."""
