"""[Docker Client] Turns a command line into requests to a daemon, and their replies into output."""
