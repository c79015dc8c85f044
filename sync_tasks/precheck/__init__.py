"""What must hold before a task starts for the first time. Nothing is written to either server."""
