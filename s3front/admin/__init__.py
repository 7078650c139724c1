"""What lives below /-/: health, later metrics and the admin API."""
