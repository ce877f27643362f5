"""Ways to reach people: e-mail, text message, chat and a task in the PMS; adapters, one a file."""
