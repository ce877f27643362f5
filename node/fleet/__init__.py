"""Many locations at a glance: each node says how it stands, and one of them shows all."""
