"""The workers, one file each, and the runner that does all their I/O. Never a worker that does I/O itself."""
