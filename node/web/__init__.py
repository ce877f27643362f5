"""The web: API, review page and live updates."""
