"""The wire, shared by both ends: versions, codec, stream frames, and the table of errors and statuses."""
