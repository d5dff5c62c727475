"""[Docker Server] HTTP in, a job, HTTP out. No logic of containers or images lives here."""
