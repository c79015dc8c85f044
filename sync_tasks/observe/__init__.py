"""What an installation shows to programs that watch it: metrics, logs, traces."""
