"""The data plane: bytes from SDKs become durable events."""
