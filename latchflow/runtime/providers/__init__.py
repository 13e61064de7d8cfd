"""Providers of services, their configs, and the services that a process offers to plugins."""
