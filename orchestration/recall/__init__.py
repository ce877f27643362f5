"""Recall: who is due, how they are reminded, and what is learnt from it; rules, and their rows."""
