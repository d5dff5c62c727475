"""[Docker Daemon] Who does each job. compose.py is the only module that knows every class."""
