"""The container image, the Compose stack, and what watches a store: dashboard and alerts."""
