"""At-least-once effects: each may run twice and then leaves one effect. Stores and services come in by constructor."""
