"""The worker process: arq jobs that only wake, and loops that find work by rows."""
