"""Talking to models: the child process and its client, sessions, and saved conversations."""
