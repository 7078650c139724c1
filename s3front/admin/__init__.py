"""What lives below /-/, where no bucket is named: the admin API, and health."""
