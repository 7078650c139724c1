"""What a store can tell of itself: read from the catalog and the nodes, for the admin API and the command line."""
