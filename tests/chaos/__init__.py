"""Random faults on a real store beside real clients, and a checker of what the clients saw."""
