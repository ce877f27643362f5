"""Reading a practice's management system (PMS) and writing signed results back into its chart."""
