"""[Engine] [Job] Mechanism only: what a job is, who handles it, and the record of each run."""
