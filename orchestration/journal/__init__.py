"""The orchestration tier's durable record: the contract and its implementations."""
