"""Implementations of the service protocols of the SDK: what turns a call of a plugin into bytes on a wire."""
